"""Where users are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.rpc.identity import Role
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.users.types import User, UserSpec

_COLUMNS = "workspace_id, user_id, name, role, disabled, revision, create_time"
_BY_ID = f"SELECT {_COLUMNS} FROM users WHERE workspace_id = :workspace_id AND user_id = :user_id"
_BY_NAME = "SELECT user_id FROM users WHERE workspace_id = :workspace_id AND name = :name"
_PAGE = f"""
SELECT {_COLUMNS} FROM users WHERE workspace_id = :workspace_id AND user_id > :after ORDER BY user_id LIMIT :limit
"""
_INSERT = """
INSERT INTO users (workspace_id, user_id, name, role, disabled, revision, create_time, update_time)
VALUES (:workspace_id, :user_id, :name, :role, :disabled, 1, :now, :now)
"""
_UPDATE = """
UPDATE users SET name = :name, role = :role, disabled = :disabled, revision = revision + 1, update_time = :now
WHERE workspace_id = :workspace_id AND user_id = :user_id AND (:expected = 0 OR revision = :expected)
"""
_DELETE = "DELETE FROM users WHERE workspace_id = :workspace_id AND user_id = :user_id"
_ACTORS = "SELECT actor_id FROM user_actors WHERE workspace_id = :workspace_id AND user_id = :user_id ORDER BY actor_id"
_ADD_ACTOR = """
INSERT INTO user_actors (workspace_id, actor_id, user_id) VALUES (:workspace_id, :actor_id, :user_id)
ON CONFLICT (workspace_id, actor_id) DO NOTHING
"""
_DROP_ACTORS = "DELETE FROM user_actors WHERE workspace_id = :workspace_id AND user_id = :user_id"
_OWNER = "SELECT user_id FROM user_actors WHERE workspace_id = :workspace_id AND actor_id = :actor_id"


class Users(Protocol):
    """What can be asked about users."""

    async def user(self, workspace_id: str, user_id: str) -> User:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[User]:
        """By id, after the id `after` ('' to begin)."""

    async def of_actor(self, workspace_id: str, actor_id: str) -> str:
        """The id of the user whose account `surface:id` it is. Raises NotFound."""


def add_user(tx: Transaction, workspace_id: str, user_id: str, spec: UserSpec) -> User:
    """Raises Conflict when the id, the name or an actor id is taken."""
    params = _params(tx, workspace_id, user_id, spec)
    if tx.one(_BY_ID, params) is not None:
        raise Conflict(f"There is a user {user_id!r} already. Choose another id.")
    _check_name(tx, params)
    tx.execute(_INSERT, params)
    _keep_actors(tx, params, spec)
    return read_user(tx, workspace_id, user_id)


def change_user(tx: Transaction, workspace_id: str, user_id: str, spec: UserSpec, expected_revision: int = 0) -> User:
    """Raises NotFound; Stale when its revision is not the expected one (0: any); Conflict (name, actor id)."""
    params = _params(tx, workspace_id, user_id, spec)
    before = read_user(tx, workspace_id, user_id)
    _check_name(tx, params)
    if not tx.execute(_UPDATE, {**params, "expected": expected_revision}):
        raise Stale(f"The user {user_id!r} is at revision {before.revision} now. Read it again, then write.")
    tx.execute(_DROP_ACTORS, params)
    _keep_actors(tx, params, spec)
    return read_user(tx, workspace_id, user_id)


def remove_user(tx: Transaction, workspace_id: str, user_id: str) -> None:
    """Raises NotFound."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "user_id": user_id}
    if not tx.execute(_DELETE, params):
        raise NotFound.of("user", user_id)
    tx.execute(_DROP_ACTORS, params)


def read_user(tx: ReadTransaction, workspace_id: str, user_id: str) -> User:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "user_id": user_id})
    if row is None:
        raise NotFound.of("user", user_id)
    return _user(tx, row)


def _params(tx: Transaction, workspace_id: str, user_id: str, spec: UserSpec) -> dict[str, SqlValue]:
    return {
        "workspace_id": workspace_id,
        "user_id": user_id,
        "name": spec.name,
        "role": spec.role.name.lower(),
        "disabled": int(spec.disabled),
        "now": tx.now,
    }


def _check_name(tx: Transaction, params: dict[str, SqlValue]) -> None:
    row = tx.one(_BY_NAME, params)
    if row is not None and row[0] != params["user_id"]:
        raise Conflict(f"There is another user with the name {params['name']!r}. Choose another name.")


def _keep_actors(tx: Transaction, params: dict[str, SqlValue], spec: UserSpec) -> None:
    for actor_id in dict.fromkeys(spec.actor_ids):
        if not tx.execute(_ADD_ACTOR, {**params, "actor_id": actor_id}):
            row = tx.one(_OWNER, {**params, "actor_id": actor_id})
            owner = row[0] if row else ""
            raise Conflict(f"The account {actor_id!r} is the user {owner!r}'s. Take it from that user first.")


def _user(tx: ReadTransaction, row: Row) -> User:
    actors = tx.all(_ACTORS, {"workspace_id": row[0], "user_id": row[1]})
    spec = UserSpec(
        name=row[2], role=Role[row[3].upper()], disabled=bool(row[4]), actor_ids=tuple(one[0] for one in actors)
    )
    return User(row[0], row[1], spec, row[5], row[6])


class StoredUsers:
    """Users in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def user(self, workspace_id: str, user_id: str) -> User:
        return await self._reader.run(lambda tx: read_user(tx, workspace_id, user_id))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[User]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return await self._reader.run(lambda tx: [_user(tx, row) for row in tx.all(_PAGE, params)])

    async def of_actor(self, workspace_id: str, actor_id: str) -> str:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "actor_id": actor_id}
        row = await self._reader.look(lambda tx: tx.one(_OWNER, params))
        if row is None:
            raise NotFound.of("user of the account", actor_id)
        return str(row[0])
