"""Who may call: the tokens in one file, by hash, written by whoever starts the box."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import NotAuthenticated, Reason
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.tokens import parse_token, same_secret

_ROLES = {role.name.lower(): role for role in Role}


@dataclass(frozen=True, slots=True)
class _Accepted:
    secret_hash: bytes
    caller: Caller


class AcceptedTokens:
    """Implements `Authenticator`.

    The file is JSON: `{"tokens": [{"id", "sha256", "role", "workspace_id"}]}`, where the workspace `*` means all. It is
    read again when it changed, so that tokens can be given and taken away while the box runs.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version = (0, 0)
        self._accepted: dict[str, _Accepted] = {}
        self._refresh(first=True)

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        parsed = parse_token(token)
        self._refresh()
        found = self._accepted.get(parsed.token_id)
        # A missing id is compared too, so that both refusals take the same path.
        matches = same_secret(found.secret_hash if found else bytes(32), parsed.secret_hash)
        if found is None or not matches:
            raise NotAuthenticated(
                "the box does not accept this token; use the admin token, or one that `portway tokens create` made",
                reason=Reason.TOKEN_INVALID,
            )
        return found.caller

    def _refresh(self, *, first: bool = False) -> None:
        try:
            info = self._file.stat()
            version = (info.st_mtime_ns, info.st_ino)
            if version != self._version:
                self._accepted = _read(self._file)
                self._version = version
        except (OSError, ValueError, KeyError, TypeError) as error:
            # While it runs, a file that is gone or torn changes nothing: the last good one stays in force.
            if first:
                raise ConfigurationError(
                    f"{self._file}: cannot be read as a list of accepted tokens ({type(error).__name__}); "
                    "`portway up` writes it, see docs/box.md"
                ) from None


def _read(file: Path) -> dict[str, _Accepted]:
    if file.stat().st_mode & 0o077:
        raise ConfigurationError(f"{file}: is open to other users; `chmod 600` it")
    entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["tokens"]
    return {entry["id"]: _entry(entry) for entry in entries}


def _entry(entry: dict[str, Any]) -> _Accepted:
    caller = Caller(_ROLES[entry["role"]], entry["workspace_id"], entry["id"], entry.get("subject", ""))
    return _Accepted(bytes.fromhex(entry["sha256"]), caller)
