"""Passes for the box: signed by the host with a key that its box knows the public half of."""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.errors import InvalidInput, NotPermitted, Reason, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import new_id
from portway.rpc.pass_keys import MOST_KEYS
from portway.rpc.passes import BOX, LONGEST_SECONDS, ROLES, SKEW_SECONDS, Claims, SigningKey
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.keyring import Keyring
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.workspaces.store import read_workspace

DEFAULT_SECONDS = 300
_PURPOSE = "box passes"


@dataclass(frozen=True, slots=True)
class BoxToken:
    """A signed pass. `text` is given to its caller and kept nowhere; it does not print."""

    text: str
    token_id: str
    role: Role
    workspace_id: str
    expire_time: int

    def __repr__(self) -> str:
        return f"BoxToken({self.token_id})"


class BoxTokens:
    """Signs with a key made of the keyring's newest one: whoever rotates that, rotates this. Those of older keys stay
    good while these are in the keyring."""

    def __init__(self, keyring: Keyring, public_keys: Path | None, writer: Writer, *, has_box: bool) -> None:
        """`public_keys` is where the box finds them."""
        self._keyring = keyring
        self._public_keys = public_keys
        self._writer = writer
        self._has_box = has_box
        self._published: tuple[str, ...] = ()
        self._publishing = asyncio.Lock()

    async def issue(self, caller: Caller, *, role: Role | None, workspace_id: str, seconds: float | None) -> BoxToken:
        """Raises InvalidInput, NotPermitted, NotFound (workspace), WrongState (no box that could take it)."""
        life = DEFAULT_SECONDS if seconds is None else int(seconds)
        if not 1 <= life <= LONGEST_SECONDS:
            raise InvalidInput.field("ttl", f"must be between 1 and {LONGEST_SECONDS} s")
        owner, given = _owner(caller, workspace_id), _role(caller, role)
        if not self._has_box or self._public_keys is None:
            raise WrongState(
                "this host has no box that knows its key; start both with `portway up`, or set `host.pass_keys_file` "
                "and `box.pass_keys` to one file",
                reason=Reason.NOT_CONFIGURED,
            )
        await self.publish()
        now, token_id = int(time.time()), new_id("tok")
        key = self._key(self._keyring.newest)
        subject = caller.subject or caller.token_id
        claims = Claims(key.key_id, BOX, owner, given.name.lower(), subject, caller.user_id, now, now + life)
        record = _record(caller, owner, token_id, f"role {claims.role}, {life} s")

        def unit(tx: Transaction) -> None:
            read_workspace(tx, owner)
            append_audit(tx, [record])

        await self._writer.run(unit)
        return BoxToken(key.sign(token_id, claims), token_id, given, owner, claims.expire_time)

    async def publish(self) -> None:
        """Writes the public halves of the keys where the box looks, if they have changed. Raises WrongState."""
        if self._public_keys is None:
            return
        async with self._publishing:
            wanted = tuple(key.key_id for key in self._keyring.keys)
            if wanted == self._published:
                return
            try:
                await asyncio.to_thread(self._write, self._public_keys, wanted)
            except OSError as error:
                raise WrongState(
                    f"the file {self._public_keys} for the box cannot be written: {error.strerror}; make its folder "
                    "writable, or name another one (`host.pass_keys_file`)",
                    reason=Reason.NOT_CONFIGURED,
                ) from error
            self._published = wanted

    def _write(self, path: Path, wanted: tuple[str, ...]) -> None:
        """Keys that are not wanted any more stay for as long as what was signed with them."""
        now = time.time()
        entries: list[dict[str, object]] = [
            {"id": key.key_id, "ed25519": key.public.hex(), "until": 0} for key in map(self._key, wanted)
        ]
        for old in _entries(path):
            until = float(old.get("until") or now + LONGEST_SECONDS + SKEW_SECONDS)
            if old.get("id") not in wanted and until > now:
                entries.append({**old, "until": until})
        _replace(path, json.dumps({"keys": entries[:MOST_KEYS]}) + "\n")

    def _key(self, key_id: str) -> SigningKey:
        return SigningKey.of(key_id, self._keyring.derive(f"{_PURPOSE}/{key_id}"))


def _owner(caller: Caller, workspace_id: str) -> str:
    if workspace_id in ("", caller.workspace_id):
        return caller.workspace_id
    if caller.role is not Role.ADMIN:
        raise NotPermitted("Only an administrator gets a token for another workspace.", reason=Reason.NOT_GRANTED)
    return workspace_id


def _role(caller: Caller, wanted: Role | None) -> Role:
    most = Role.VIEWER if caller.role is Role.VIEWER else Role.OPERATOR
    role = most if wanted is None else wanted
    if role not in ROLES:
        raise InvalidInput.field("role", "must be ROLE_OPERATOR or ROLE_VIEWER")
    if role is Role.OPERATOR and most is Role.VIEWER:
        raise NotPermitted("A viewer gets no more than a viewer's token.", reason=Reason.NOT_GRANTED)
    return role


def _record(caller: Caller, workspace_id: str, token_id: str, details: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=workspace_id,
        action="token.issue_for_box",
        resource=token_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=details,
    )


def _entries(path: Path) -> list[dict[str, Any]]:
    """What the file had; nothing where it is none of ours."""
    try:
        return [one for one in json.loads(path.read_text(encoding="utf-8"))["keys"] if isinstance(one, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _replace(path: Path, text: str) -> None:
    """Replaces the file, readable by everybody and written by us alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
