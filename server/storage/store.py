"""Where stored objects are kept."""

from typing import Protocol

from portway.rpc.errors import NotFound, Stale
from portway.server.storage.types import ANY_VERSION, StorageSpace, StoredObject
from portway.server.storage_engine.prefixes import prefix_end
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, values
from portway.server.storage_engine.transaction import ReadTransaction, Transaction

_COLUMNS = columns(StoredObject)
_SPACE = "workspace_id = :workspace_id AND area = :area AND owner_id = :owner_id"
_GET = f"SELECT {_COLUMNS} FROM storage WHERE {_SPACE} AND key = :key AND deleted = 0"
_LIST = f"""
SELECT key, size, sha256, :empty, version, update_time FROM storage
WHERE {_SPACE} AND key > :after AND key >= :prefix AND (:end = '' OR key < :end) AND deleted = 0
ORDER BY key LIMIT :limit
"""
_SET = f"""
INSERT INTO storage (workspace_id, area, owner_id, key, size, sha256, value, version, deleted, update_time)
SELECT :workspace_id, :area, :owner_id, :key, :size, :sha256, :value, 1, 0, :now
WHERE :expected <= 0 OR EXISTS (SELECT 1 FROM storage WHERE {_SPACE} AND key = :key)
ON CONFLICT (workspace_id, area, owner_id, key) DO UPDATE SET
  size = :size, sha256 = :sha256, value = :value, version = storage.version + 1, deleted = 0, update_time = :now
WHERE :expected = -1 OR (:expected = 0 AND storage.deleted = 1) OR (storage.version = :expected AND storage.deleted = 0)
RETURNING version
"""
_DELETE = f"""
UPDATE storage SET size = 0, sha256 = '', value = :empty, deleted = 1, version = version + 1, update_time = :now
WHERE {_SPACE} AND key = :key AND deleted = 0 AND (:expected = -1 OR version = :expected)
"""
_USED = f"SELECT COUNT(*), COALESCE(SUM(size), 0) FROM storage WHERE {_SPACE} AND deleted = 0"


class Storage(Protocol):
    """What can be asked of storage."""

    async def object(self, space: StorageSpace, key: str) -> StoredObject:
        """Raises NotFound."""

    async def page(self, space: StorageSpace, prefix: str, after: str, limit: int) -> list[StoredObject]:
        """Objects whose key begins with `prefix`, by key, after the key `after`, without their bytes."""

    async def used(self, space: StorageSpace) -> tuple[int, int]:
        """How many objects, and how many bytes."""


def put_object(
    tx: Transaction,
    space: StorageSpace,
    key: str,
    *,
    size: int,
    value: bytes = b"",
    sha256: str = "",
    expected: int = ANY_VERSION,
) -> int:
    """Write an object, its bytes given or already in the blob store; answers its new version.

    Raises Stale by version.
    """
    params = values(space, key=key, size=size, value=value, sha256=sha256, expected=expected, now=tx.now)
    row = tx.one(_SET, params)
    if row is None:
        raise _stale(key, expected)
    return int(row[0])


def delete_object(tx: Transaction, space: StorageSpace, key: str, expected: int = ANY_VERSION) -> None:
    """Raises NotFound without one, Stale when its version is not the expected one."""
    if tx.execute(_DELETE, values(space, key=key, expected=expected, now=tx.now, empty=b"")):
        return
    read_object(tx, space, key)
    raise _stale(key, expected)


def read_object(tx: ReadTransaction, space: StorageSpace, key: str) -> StoredObject:
    """Raises NotFound."""
    row = tx.one(_GET, values(space, key=key))
    if row is None:
        raise NotFound.of("stored object", key)
    return StoredObject(*row)


def _stale(key: str, expected: int) -> Stale:
    return Stale(f"The stored object {key!r} is not at version {expected} any more. Read it again, then write.")


class StoredStorage:
    """Storage in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def object(self, space: StorageSpace, key: str) -> StoredObject:
        return await self._reader.look(lambda tx: read_object(tx, space, key))

    async def page(self, space: StorageSpace, prefix: str, after: str, limit: int) -> list[StoredObject]:
        params = values(space, prefix=prefix, end=prefix_end(prefix), after=after, limit=limit, empty=b"")
        return [StoredObject(*row) for row in await self._reader.run(lambda tx: tx.all(_LIST, params))]

    async def used(self, space: StorageSpace) -> tuple[int, int]:
        row = await self._reader.run(lambda tx: tx.one(_USED, values(space)))
        return (int(row[0]), int(row[1])) if row else (0, 0)
