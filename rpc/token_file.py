"""The service credentials that a server accepts, from a private file that `portway up` writes:
`{"tokens": [{"id": "tok_…", "sha256": "…", "role": "runtime", "workspace_id": "*"}]}`; only hashes, never a token."""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import NotAuthenticated
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.tokens import parse_token, same_secret

_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class _Known:
    secret_hash: bytes
    caller: Caller


class TokenFile:
    """An authenticator over the tokens in a file. Reads it once; raises `ConfigurationError` for one it cannot use."""

    def __init__(self, path: Path) -> None:
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigurationError(f"{path}: others may read it; run `chmod 600 {path}`")
            content = json.loads(path.read_text(encoding="utf-8"))
            self._known = dict(_read(one) for one in content["tokens"])
        except OSError as error:
            raise ConfigurationError(
                f"{path}: cannot be read ({error.strerror}); `portway up` writes it, or pass another --credentials"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(f"{path}: is no credentials file; let `portway up` write it anew") from None

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        parsed = parse_token(token)
        known = self._known.get(parsed.token_id)
        # A missing id is compared too, so that both refusals take the same path.
        right = same_secret(known.secret_hash if known else _NO_HASH, parsed.secret_hash)
        if known is None or not right:
            raise NotAuthenticated("the token is not valid here; the credentials file names those that are")
        return known.caller


def _read(entry: Mapping[str, Any]) -> tuple[str, _Known]:
    role = Role[str(entry["role"]).upper()]
    caller = Caller(role, str(entry["workspace_id"]), str(entry["id"]), subject=str(entry["role"]))
    return str(entry["id"]), _Known(bytes.fromhex(entry["sha256"]), caller)
