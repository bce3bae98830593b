"""Where access tokens are kept."""

from collections.abc import Mapping
from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, values
from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.tokens.types import NewToken, Token

_COLUMNS = columns(Token)
_BY_ID = f"SELECT {_COLUMNS} FROM tokens WHERE token_id = :token_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM tokens WHERE workspace_id = :workspace_id AND token_id > :after ORDER BY token_id LIMIT :limit
"""
_REVOKE = """
UPDATE tokens SET revoke_time = CASE WHEN revoke_time = 0 THEN :now ELSE revoke_time END
WHERE workspace_id = :workspace_id AND token_id = :token_id
"""
_EXPIRE = """
UPDATE tokens SET expire_time = :expire_time
WHERE workspace_id = :workspace_id AND token_id = :token_id AND (expire_time = 0 OR expire_time > :expire_time)
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


def add_token(tx: Transaction, token: NewToken) -> None:
    """Keep a new token."""
    tx.insert_many("tokens", [values(token, create_time=tx.now, revoke_time=0, last_use_time=0)])


def revoke_token(tx: Transaction, workspace_id: str, token_id: str) -> None:
    """From now on it is refused. Raises NotFound."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "token_id": token_id, "now": tx.now}
    if not tx.execute(_REVOKE, params):
        raise NotFound.of("token", token_id)


def shorten_token(tx: Transaction, workspace_id: str, token_id: str, expire_time: int) -> None:
    """It ends at that time at the latest: the overlap of a rotation."""
    tx.execute(_EXPIRE, {"workspace_id": workspace_id, "token_id": token_id, "expire_time": expire_time})


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
        row = await self._reader.run(lambda tx: tx.one(_BY_ID, {"token_id": token_id}))
        if row is None:
            raise NotFound.of("token", token_id)
        return Token(*row)

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Token]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [Token(*row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
