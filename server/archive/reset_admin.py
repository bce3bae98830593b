"""A new token for the administrator who lost theirs: for who sits at the host's own machine and owns its files."""

from dataclasses import dataclass
from pathlib import Path

from portway.rpc.identity import Role
from portway.rpc.tokens import mint_token
from portway.server.archive.place import Place, must_exist
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.database import open_database
from portway.server.storage_engine.transaction import Transaction
from portway.server.tokens.store import add_token, revoke_token
from portway.server.tokens.token_file import write_token
from portway.server.tokens.types import NewToken
from portway.server.workspaces.types import DEFAULT_WORKSPACE

_KIND = Role.ADMIN.name.lower()
_LIVE = """
SELECT workspace_id, token_id FROM tokens
WHERE role = 'admin' AND revoke_time = 0 AND (expire_time = 0 OR expire_time > :now)
"""


@dataclass(frozen=True, slots=True)
class NewAdmin:
    """`revoked`: how many older admin tokens were ended."""

    token_id: str
    file: Path
    revoked: int


async def reset_admin(place: Place, file: Path, *, revoke_others: bool) -> NewAdmin:
    """Write a new admin token to the file (mode 0600). The host is stopped: it would not hear of tokens that end.

    Raises NotFound, WrongState (the host runs).
    """
    must_exist(place)
    minted = mint_token(_KIND)
    token = NewToken(
        workspace_id=DEFAULT_WORKSPACE,
        token_id=minted.token_id,
        kind=_KIND,
        role=_KIND,
        subject="admin",
        secret_hash=minted.secret_hash,
        name="reset on the host's machine",
        expire_time=0,
    )

    def unit(tx: Transaction) -> int:
        old = tx.all(_LIVE, {"now": tx.now}) if revoke_others else []
        for workspace_id, token_id in old:
            revoke_token(tx, workspace_id, token_id)
        add_token(tx, token)
        told = NewAuditRecord(
            workspace_id=DEFAULT_WORKSPACE,
            action="token.reset_admin",
            resource=minted.token_id,
            allowed=True,
            subject="host machine",
            details=f"{len(old)} older admin tokens revoked",
        )
        append_audit(tx, [told])
        return len(old)

    async with open_database(place.options) as database:
        revoked = await database.writer.run(unit)
    write_token(file, minted.text)
    return NewAdmin(minted.token_id, file, revoked)
