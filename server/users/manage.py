"""Making, changing and removing users. What ends a user's rights ends those of the user's tokens in the same moment."""

import re

from portway.rpc.errors import InvalidInput
from portway.rpc.identity import Caller
from portway.rpc.ids import derived_id, new_id
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.store import revoke_tokens_of
from portway.server.users.store import add_user, change_user, read_user, remove_user
from portway.server.users.types import TOKEN_ROLES, User, UserSpec

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_MAX_ACTOR_ID = 256


class UserManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, authenticator: TokenAuthenticator) -> None:
        self._writer = writer
        self._authenticator = authenticator

    async def create(self, caller: Caller, user_id: str, spec: UserSpec, request_id: str) -> User:
        """The same request again answers with the first one. Raises InvalidInput, Conflict."""
        workspace_id = caller.workspace_id
        made = derived_id("usr", "user", workspace_id, request_id) if request_id else new_id("usr")
        wanted_id = user_id or made
        _check(wanted_id, spec)

        def unit(tx: Transaction) -> User:
            if request_id and not user_id and tx.one(_IS_THERE, {"workspace_id": workspace_id, "user_id": made}):
                return read_user(tx, workspace_id, made)
            user = add_user(tx, workspace_id, wanted_id, spec)
            append_audit(tx, [_record(caller, "user.create", user)])
            return user

        return await self._writer.run(unit)

    async def update(self, caller: Caller, user_id: str, spec: UserSpec, revision: int) -> User:
        """Raises InvalidInput, NotFound, Stale, Conflict."""
        _check(user_id, spec)

        def unit(tx: Transaction) -> User:
            user = change_user(tx, caller.workspace_id, user_id, spec, revision)
            append_audit(tx, [_record(caller, "user.update", user)])
            return user

        done = self._writer.submit(unit)
        done.add_done_callback(lambda _: self._authenticator.forget_all())
        return await done

    async def delete(self, caller: Caller, user_id: str) -> None:
        """Raises NotFound. The user's tokens are revoked."""

        def unit(tx: Transaction) -> None:
            user = read_user(tx, caller.workspace_id, user_id)
            remove_user(tx, caller.workspace_id, user_id)
            count = revoke_tokens_of(tx, caller.workspace_id, user_id)
            append_audit(tx, [_record(caller, "user.delete", user, f"{count} tokens were revoked")])

        done = self._writer.submit(unit)
        done.add_done_callback(lambda _: self._authenticator.forget_all())
        await done


_IS_THERE = "SELECT 1 FROM users WHERE workspace_id = :workspace_id AND user_id = :user_id"


def _check(user_id: str, spec: UserSpec) -> None:
    if not _ID.fullmatch(user_id):
        raise InvalidInput.field(
            "user.user_id", "has 1 to 128 letters, digits and . _ @ -, and begins with a letter or digit"
        )
    if not spec.name.strip():
        raise InvalidInput.field("user.name", "is required")
    if spec.role not in TOKEN_ROLES:
        raise InvalidInput.field("user.role", "must be operator, viewer or member")
    for index, actor_id in enumerate(spec.actor_ids):
        surface, _, name = actor_id.partition(":")
        if not surface or not name or len(actor_id) > _MAX_ACTOR_ID:
            raise InvalidInput.field(f"user.actor_ids[{index}]", "is `surface:id`, for example `telegram:4711`")


def _record(caller: Caller, action: str, user: User, details: str = "") -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=user.workspace_id,
        action=action,
        resource=user.user_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=details or f"role {user.spec.role.name.lower()}{', disabled' if user.spec.disabled else ''}",
    )
