"""The tokens that a server accepts, from a private file that `portway up` writes:
`{"tokens": [{"id": "tok_…", "sha256": "…", "role": "runtime", "workspace_id": "*"}], "include": ["admins.json"]}`.

Only hashes, never a token. An entry may have an `expire_time` (seconds since 1970), and an id several entries, as after
a rotation. Included files are of the same form, beside this one, and may be missing. All are read again when they
change, so that tokens are given and taken away while the server runs.
"""

import json
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import NotAuthenticated, Reason
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.tokens import parse_token, same_secret

_NO_HASH = bytes(32)
_Version = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Known:
    secret_hash: bytes
    caller: Caller
    expire_time: float

    def works(self, now: float) -> bool:
        return not self.expire_time or self.expire_time > now


@dataclass(frozen=True, slots=True)
class _Content:
    version: _Version
    known: tuple[_Known, ...]
    include: tuple[str, ...] = ()


class TokenFile:
    """An authenticator over the tokens in a file. Raises `ConfigurationError` for one it cannot use at the start; one
    that is torn later changes nothing until it is whole again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._contents: dict[Path, _Content] = {path: _read(path)}
        self._known: dict[str, list[_Known]] = {}
        self._look(force=True)

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        parsed = parse_token(token)
        self._look()
        now = time.time()
        found = [one for one in self._known.get(parsed.token_id, ()) if one.works(now)]
        # A missing id is compared too, so that both refusals take the same path.
        hashes = [one.secret_hash for one in found] or [_NO_HASH]
        right = [same_secret(one, parsed.secret_hash) for one in hashes]
        if not found or not any(right):
            raise NotAuthenticated(
                "the token is not valid here; use an administrator's, or one that the credentials file names",
                reason=Reason.TOKEN_INVALID,
            )
        return found[right.index(True)].caller

    async def check_standing(self, caller: Caller) -> None:
        """Whether one who was let in would be let in now: for streams that go on. Raises NotAuthenticated."""
        self._look()
        now = time.time()
        if not any(one.works(now) and one.caller == caller for one in self._known.get(caller.token_id, ())):
            raise NotAuthenticated("the token is not valid here any more", reason=Reason.TOKEN_REVOKED)

    def _look(self, *, force: bool = False) -> None:
        changed = force
        for path in (self._path, *self._included()):
            before = self._contents.get(path)
            version = _version(path)
            if before is not None and before.version == version:
                continue
            try:
                self._contents[path] = _read(path) if version is not None else self._gone(path)
            except ConfigurationError:
                continue
            changed = True
        if changed:
            self._known = {}
            for path in (self._path, *self._included()):
                for one in self._contents[path].known if path in self._contents else ():
                    self._known.setdefault(one.caller.token_id, []).append(one)

    def _included(self) -> list[Path]:
        return [self._path.parent / name for name in self._contents[self._path].include]

    def _gone(self, path: Path) -> _Content:
        # What the server itself was given stays in force; what somebody else keeps up to date does not.
        return self._contents[path] if path == self._path else _Content(None, ())


def _version(path: Path) -> _Version:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino


def _read(path: Path) -> _Content:
    try:
        version = _version(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError(f"{path}: others may read it; run `chmod 600 {path}`")
        content = json.loads(path.read_text(encoding="utf-8"))
        known = tuple(_entry(one) for one in content["tokens"])
        return _Content(version, known, tuple(str(name) for name in content.get("include", ())))
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); `portway up` writes it, or pass another --credentials"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(f"{path}: is no list of accepted tokens; let `portway up` write it anew") from None


def _entry(entry: Mapping[str, Any]) -> _Known:
    role = Role[str(entry["role"]).upper()]
    subject = str(entry.get("subject", entry["role"]))
    caller = Caller(role, str(entry["workspace_id"]), str(entry["id"]), subject=subject)
    return _Known(bytes.fromhex(entry["sha256"]), caller, float(entry.get("expire_time", 0)))
