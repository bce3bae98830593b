"""Where Portway is and with which token: from arguments, the environment, or the last `portway up` of this user."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.clients.supervisor.layout import current_pointer
from portway.rpc.channel import ClientTls
from portway.rpc.errors import WrongState

DEFAULT_HOST = "127.0.0.1:7700"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Addresses `host:port` and the bearer token. `box` and `runtime` are empty where nothing is known of them."""

    host: str
    token: str
    box: str = ""
    runtime: str = ""
    tls: ClientTls | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.host})"


def find_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """PORTWAY_HOST, PORTWAY_BOX, PORTWAY_RUNTIME, PORTWAY_TOKEN, PORTWAY_TOKEN_FILE; the ready file has the rest.
    PORTWAY_CA names the authority of servers that use TLS.

    Raises `WrongState` where no token can be found.
    """
    ready = _last_start(environment)
    token = environment.get("PORTWAY_TOKEN") or _read_token(environment.get("PORTWAY_TOKEN_FILE"))
    if not token:
        token = _read_token(str(ready.get("token_file") or ""))
    if not token:
        raise WrongState(
            "no token: start Portway with `portway up`, or set PORTWAY_TOKEN or PORTWAY_TOKEN_FILE "
            "(and PORTWAY_HOST where it runs elsewhere)"
        )
    return Endpoint(
        host=environment.get("PORTWAY_HOST") or str(ready.get("host") or DEFAULT_HOST),
        token=token,
        box=environment.get("PORTWAY_BOX") or str(ready.get("box") or ""),
        runtime=environment.get("PORTWAY_RUNTIME") or str(ready.get("runtime") or ""),
        tls=_tls(environment.get("PORTWAY_CA")),
    )


def _tls(ca: str | None) -> ClientTls | None:
    if not ca:
        return None
    if not Path(ca).is_file():
        raise WrongState(f"PORTWAY_CA: there is no file {ca}; name the PEM file of the authority, or unset it")
    return ClientTls(ca=Path(ca))


def _last_start(environment: Mapping[str, str]) -> Mapping[str, object]:
    """The ready file of the last start; nothing where Portway does not run, or not for this user."""
    try:
        pointer = json.loads(current_pointer(environment).read_text(encoding="utf-8"))
        ready = json.loads(Path(pointer["ready_file"]).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return ready if isinstance(ready, dict) else {}


def _read_token(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongState(f"token file {path}: cannot be read; check the path and its owner") from error
