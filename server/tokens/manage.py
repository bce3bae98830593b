"""Making, changing and ending API tokens. Nobody hands out more than they have."""

from portway.rpc.errors import InvalidInput, NotPermitted, Reason
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import derived_id
from portway.rpc.tokens import MintedToken, mint_token
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.clock import SECOND, Micros
from portway.server.storage_engine.transaction import ReadTransaction, Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.store import add_token, read_token, revoke_token, rotate_token
from portway.server.tokens.types import NewToken, Token
from portway.server.users.store import read_user
from portway.server.users.types import TOKEN_ROLES, User
from portway.server.workspaces.store import read_workspace

# The others stand for a run, a runtime or a box: they are made by what they belong to.
ROLES = (Role.ADMIN, Role.OPERATOR, Role.ADAPTER, Role.NODE, Role.VIEWER, Role.MEMBER)


class TokenManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, authenticator: TokenAuthenticator) -> None:
        self._writer = writer
        self._authenticator = authenticator

    async def create(
        self,
        caller: Caller,
        *,
        name: str,
        role: Role,
        ttl: Micros | None,
        request_id: str,
        workspace_id: str,
        user_id: str = "",
    ) -> tuple[Token, MintedToken]:
        """Raises InvalidInput, NotPermitted, NotFound (workspace, user); Conflict for a request that made its token."""
        if role not in ROLES:
            raise InvalidInput.field("role", f"{role.name} is not a role of an API token")
        if ttl is not None and ttl <= 0:
            raise InvalidInput.field("ttl", "must be more than nothing; leave it out for a token without an end")
        _check_rank(caller, role)
        owner = _owner(caller, workspace_id)
        kind = role.name.lower()
        token_id = derived_id("tok", "token", owner, request_id) if request_id else ""
        minted = mint_token(kind, token_id)

        def unit(tx: Transaction) -> Token:
            read_workspace(tx, owner)
            if user_id:
                _check_user(read_user(tx, owner, user_id), role)
            new = NewToken(
                workspace_id=owner,
                token_id=minted.token_id,
                kind=kind,
                role=kind,
                subject="",
                secret_hash=minted.secret_hash,
                name=name,
                expire_time=0 if ttl is None else tx.now + ttl,
                user_id=user_id,
            )
            token = add_token(tx, new)
            append_audit(
                tx,
                [_record(caller, "token.create", token, f"role {kind}" + (f", of user {user_id}" if user_id else ""))],
            )
            return token

        return await self._writer.run(unit, then=lambda _: self._authenticator.forget(minted.token_id)), minted

    async def revoke(self, caller: Caller, token_id: str) -> Token:
        """Raises NotFound, NotPermitted. Revoking twice changes nothing."""

        def unit(tx: Transaction) -> Token:
            _check_rank_of(tx, caller, token_id)
            token = revoke_token(tx, caller.workspace_id, token_id)
            append_audit(tx, [_record(caller, "token.revoke", token)])
            return token

        return await self._writer.run(unit, then=lambda _: self._authenticator.forget(token_id))

    async def rotate(self, caller: Caller, token_id: str, overlap_seconds: float) -> tuple[Token, MintedToken]:
        """Raises NotFound, NotPermitted; WrongState when the token has ended."""
        overlap: Micros = round(overlap_seconds * SECOND)

        def unit(tx: Transaction) -> tuple[Token, MintedToken]:
            minted = mint_token(_check_rank_of(tx, caller, token_id).kind, token_id)
            token = rotate_token(tx, caller.workspace_id, token_id, minted.secret_hash, overlap)
            append_audit(tx, [_record(caller, "token.rotate", token)])
            return token, minted

        return await self._writer.run(unit, then=lambda _: self._authenticator.forget(token_id))


def _owner(caller: Caller, workspace_id: str) -> str:
    if workspace_id in ("", caller.workspace_id):
        return caller.workspace_id
    if caller.role is not Role.ADMIN:
        raise NotPermitted("Only an administrator makes tokens of another workspace.", reason=Reason.NOT_GRANTED)
    return workspace_id


def _check_rank(caller: Caller, role: Role) -> None:
    if role is Role.ADMIN and caller.role is not Role.ADMIN:
        raise NotPermitted(
            "Only an administrator makes, changes or ends the token of an administrator.", reason=Reason.NOT_GRANTED
        )


def _check_user(user: User, role: Role) -> None:
    allowed = TOKEN_ROLES[user.spec.role]
    if role not in allowed:
        names = ", ".join(sorted(one.name.lower() for one in allowed))
        raise NotPermitted(
            f"A token of the user {user.user_id!r} may be {names}, and not {role.name.lower()}. Change the user's role "
            "first.",
            reason=Reason.NOT_GRANTED,
        )


def _check_rank_of(tx: ReadTransaction, caller: Caller, token_id: str) -> Token:
    token = read_token(tx, caller.workspace_id, token_id)
    _check_rank(caller, Role[token.role.upper()])
    return token


def _record(caller: Caller, action: str, token: Token, details: str = "") -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=token.workspace_id,
        action=action,
        resource=token.token_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=details,
    )
