"""What commands find in their environment."""

from collections.abc import Mapping

from portway.box.backends.types import TEMPORARY, WORKSPACE, Network
from portway.box.network.policy import PROXY_PORT
from portway.box.sessions.types import SessionSpec
from portway.rpc.errors import InvalidInput

_BASE: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": WORKSPACE,
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "TMPDIR": TEMPORARY,
}


_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
# Programs disagree about the case. One for SOCKS is not set: some fail over it instead of taking another.
_PROXIES: Mapping[str, str] = {
    "http_proxy": _PROXY,
    "https_proxy": _PROXY,
    "HTTP_PROXY": _PROXY,
    "HTTPS_PROXY": _PROXY,
    "no_proxy": "localhost,127.0.0.1,::1",
    "NO_PROXY": "localhost,127.0.0.1,::1",
}


def session_environment(spec: SessionSpec) -> dict[str, str]:
    """What every command of a session gets. What its caller says stands over what the box and the image set."""
    network = _PROXIES if spec.network.mode is Network.ALLOW_LIST else {}
    return {**_BASE, **spec.image_env, **network, **spec.env}


def check_environment(env: Mapping[str, str], field: str) -> None:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidInput.field(field, f"{name!r} is not a name and value that an environment can hold")
