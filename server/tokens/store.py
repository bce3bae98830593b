"""Where access tokens are kept."""

from collections.abc import Mapping
from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, WrongState
from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, values
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue, Transaction
from portway.server.tokens.types import NewToken, Token

_COLUMNS = columns(Token)
_BY_ID = f"SELECT {_COLUMNS} FROM tokens WHERE token_id = :token_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM tokens WHERE workspace_id = :workspace_id AND token_id > :after ORDER BY token_id LIMIT :limit
"""
_ADMINISTRATORS = f"""
SELECT {_COLUMNS} FROM tokens WHERE role = 'admin' AND revoke_time = 0 ORDER BY create_time DESC, token_id LIMIT :limit
"""
_REVOKE = """
UPDATE tokens SET revoke_time = CASE WHEN revoke_time = 0 THEN :now ELSE revoke_time END
WHERE workspace_id = :workspace_id AND token_id = :token_id
"""
_REVOKE_OF_USER = """
UPDATE tokens SET revoke_time = :now
WHERE workspace_id = :workspace_id AND user_id = :user_id AND user_id <> '' AND revoke_time = 0
"""
_ROTATE = f"""
UPDATE tokens SET previous_hash = secret_hash, previous_expire_time = :previous_expire_time, secret_hash = :secret_hash
WHERE workspace_id = :workspace_id AND token_id = :token_id AND revoke_time = 0
  AND (expire_time = 0 OR expire_time > :now) RETURNING {_COLUMNS}
"""
_USED = "UPDATE tokens SET last_use_time = :time WHERE token_id = :token_id AND last_use_time < :time"
_PURGE = """
DELETE FROM tokens WHERE (expire_time > 0 AND expire_time < :before) OR (revoke_time > 0 AND revoke_time < :before)
"""


class Tokens(Protocol):
    """What can be asked about tokens."""

    async def token(self, token_id: str) -> Token:
        """Raises NotFound. Also one that has expired or was revoked: the caller tells which."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Token]:
        """By id, after the id `after` ('' to begin)."""

    async def administrators(self, limit: int) -> list[Token]:
        """Those of administrators in every workspace that were not revoked, the newest first."""


def add_token(tx: Transaction, token: NewToken) -> Token:
    """Keep a new token. Raises Conflict when its id is taken."""
    if tx.one(_BY_ID, {"token_id": token.token_id}) is not None:
        raise Conflict(
            f"The token {token.token_id} was made before, and its secret is shown only once. Revoke it, or ask with "
            "another request id."
        )
    tx.insert_many(
        "tokens",
        [values(token, previous_hash=b"", previous_expire_time=0, create_time=tx.now, revoke_time=0, last_use_time=0)],
    )
    return read_token(tx, token.workspace_id, token.token_id)


def read_token(tx: ReadTransaction, workspace_id: str, token_id: str) -> Token:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"token_id": token_id})
    if row is None or row[0] != workspace_id:
        raise NotFound.of("token", token_id)
    return Token(*row)


def revoke_token(tx: Transaction, workspace_id: str, token_id: str) -> Token:
    """From now on it is refused. Raises NotFound."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "token_id": token_id, "now": tx.now}
    if not tx.execute(_REVOKE, params):
        raise NotFound.of("token", token_id)
    return read_token(tx, workspace_id, token_id)


def revoke_tokens_of(tx: Transaction, workspace_id: str, user_id: str) -> int:
    """End every token of a user; answers how many."""
    return tx.execute(_REVOKE_OF_USER, {"workspace_id": workspace_id, "user_id": user_id, "now": tx.now})


def rotate_token(tx: Transaction, workspace_id: str, token_id: str, secret_hash: bytes, overlap: Micros) -> Token:
    """Give it a new secret; the old one works for the overlap. Raises NotFound; WrongState when the token has ended."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "token_id": token_id,
        "secret_hash": secret_hash,
        "previous_expire_time": tx.now + overlap if overlap else 0,
        "now": tx.now,
    }
    row = tx.one(_ROTATE, params)
    if row is None:
        read_token(tx, workspace_id, token_id)
        raise WrongState(f"The token {token_id} has ended. Make a new one with `portway tokens create`.")
    return Token(*row)


def mark_used(tx: Transaction, uses: Mapping[str, int]) -> None:
    """When tokens were last used, by token id. Told now and then, not on every call."""
    tx.executemany(_USED, [{"token_id": token_id, "time": time} for token_id, time in uses.items()])


def purge_tokens(tx: Transaction, ended_before: int) -> int:
    """Forget tokens that ended before that time; answers how many."""
    return tx.execute(_PURGE, {"before": ended_before})


class StoredTokens:
    """Tokens in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def token(self, token_id: str) -> Token:
        row = await self._reader.look(lambda tx: tx.one(_BY_ID, {"token_id": token_id}))
        if row is None:
            raise NotFound.of("token", token_id)
        return Token(*row)

    async def administrators(self, limit: int) -> list[Token]:
        rows = await self._reader.run(lambda tx: tx.all(_ADMINISTRATORS, {"limit": limit}))
        return [Token(*row) for row in rows]

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Token]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [Token(*row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
