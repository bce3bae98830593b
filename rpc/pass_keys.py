"""The keys whose passes a server takes, from a file that the host writes:
`{"keys": [{"id": "key_…", "ed25519": "…", "until": 0}]}`: public halves in hexadecimal, the newest first, and when one
that was replaced is good no more (seconds since the epoch).

Nothing in it is secret; who may write it decides who gets in. It may come later than the server, and is read again when
it changes. One that is torn changes nothing; one that others may write to lets nobody in.
"""

import json
import stat
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from portway.rpc.errors import NotAuthenticated
from portway.rpc.identity import Authenticator, Caller, Peer, Role
from portway.rpc.passes import check_pass, expired, is_pass
from portway.rpc.streams import Standing

MOST_KEYS = 16
_MOST_SEEN = 10_000
_KEY_BYTES = 32


class PassKeys:
    """The keys in the file as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._keys: list[tuple[str, bytes, float]] = []

    def current(self) -> Mapping[str, bytes]:
        """By id, those that are good now."""
        try:
            info = self._path.stat()
        except OSError:
            # Without the file nobody is known any more.
            self._version, self._keys = None, []
            return {}
        version = (info.st_ctime_ns, info.st_ino)
        if version != self._version:
            self._version = version
            self._read(info.st_mode)
        now = time.time()
        return {name: key for name, key, until in self._keys if not until or until > now}

    def _read(self, mode: int) -> None:
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            log = structlog.get_logger("portway.rpc")
            log.error("others may write to the file of keys: it lets nobody in; chmod 644", file=str(self._path))
            self._keys = []
            return
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))["keys"][:MOST_KEYS]
            keys = [(str(one["id"]), bytes.fromhex(one["ed25519"]), float(one.get("until", 0))) for one in entries]
        except (OSError, ValueError, KeyError, TypeError):
            structlog.get_logger("portway.rpc").error("the file of keys cannot be read", file=str(self._path))
            return
        self._keys = [key for key in keys if len(key[1]) == _KEY_BYTES]


@dataclass(frozen=True, slots=True)
class _Seen:
    key_id: str
    expire_time: int


class PassAuthenticator:
    """Lets in who has a pass for `audience`, and whom `others` let in."""

    def __init__(self, keys: PassKeys, audience: str, others: Authenticator, standing: Standing) -> None:
        """`standing` says whether one whom `others` let in would be let in now."""
        self._keys = keys
        self._audience = audience
        self._others = others
        self._standing = standing
        self._seen: OrderedDict[Caller, _Seen] = OrderedDict()

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        if not is_pass(token):
            return await self._others.authenticate(token, peer)
        token_id, claims = check_pass(token, self._keys.current(), self._audience, time.time())
        caller = Caller(Role[claims.role.upper()], claims.workspace_id, token_id, claims.subject, claims.user_id)
        self._seen.pop(caller, None)
        self._seen[caller] = _Seen(claims.key_id, claims.expire_time)
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return caller

    async def check_standing(self, caller: Caller) -> None:
        """Streams that a pass opened end with it. Raises NotAuthenticated."""
        seen = self._seen.get(caller)
        if seen is None:
            return await self._standing(caller)
        if seen.expire_time <= time.time():
            raise expired()
        if seen.key_id not in self._keys.current():
            raise NotAuthenticated(
                "the key that this token was signed with is not in use any more; ask for another one"
            )
