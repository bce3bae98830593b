"""Where skills are kept. The bytes of their files are blobs of the workspace."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import Conflict, LimitExceeded, NotFound, Stale
from portway.server.conversations.store import read_conversation
from portway.server.skills.types import MAX_SKILLS, Skill, SkillFile, SkillSpec
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, one_of, typed
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Skill)
_FILE_COLUMNS = columns(SkillFile)
_ID = "workspace_id = :workspace_id AND name = :name"
_BY_NAME = f"SELECT {_COLUMNS} FROM skills WHERE {_ID}"
_PAGE = f"""
SELECT {_COLUMNS} FROM skills WHERE workspace_id = :workspace_id AND name > :after ORDER BY name LIMIT :limit
"""
_FILES = f"SELECT {_FILE_COLUMNS} FROM skill_files WHERE {_ID} AND path > :after ORDER BY path LIMIT :limit"
_FILE = f"SELECT {_FILE_COLUMNS} FROM skill_files WHERE {_ID} AND path = :path"
_OFFERED = "SELECT name, description, digest, writable FROM skills WHERE workspace_id = :workspace_id"
_COUNT = "SELECT count(*) FROM skills WHERE workspace_id = :workspace_id"
_INSERT = """
INSERT INTO skills (workspace_id, name, revision, description, instructions, source, version, digest, writable,
                    create_time, update_time)
VALUES (:workspace_id, :name, 1, :description, :instructions, :source, :version, :digest, :writable, :now, :now)
ON CONFLICT DO NOTHING
"""
_UPDATE = f"""
UPDATE skills SET description = :description, instructions = :instructions, source = :source, version = :version,
  digest = :digest, writable = :writable, revision = revision + 1, update_time = :now
WHERE {_ID} AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_DELETE = f"DELETE FROM skills WHERE {_ID}"
_DELETE_FILES = f"DELETE FROM skill_files WHERE {_ID}"
_DELETE_ACTIVATIONS = f"DELETE FROM skill_activations WHERE {_ID}"
_ACTIVATE = """
INSERT INTO skill_activations (workspace_id, conversation_id, name, digest, update_time)
VALUES (:workspace_id, :conversation_id, :name, :digest, :now)
ON CONFLICT (workspace_id, conversation_id, name) DO UPDATE SET digest = excluded.digest,
  update_time = excluded.update_time
"""
_DEACTIVATE = f"DELETE FROM skill_activations WHERE {_ID} AND conversation_id = :conversation_id"
_LISTED = """
SELECT a.name, s.digest, s.writable, a.update_time FROM skill_activations AS a
JOIN skills AS s ON s.workspace_id = a.workspace_id AND s.name = a.name
WHERE a.workspace_id = :workspace_id AND a.conversation_id = :conversation_id AND a.name > :after
ORDER BY a.name LIMIT :limit
"""
_ACTIVE = """
SELECT name FROM skill_activations WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
ORDER BY name LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class ActiveSkill:
    """A skill that is active in a conversation. `digest` is that of its files now; times in microseconds."""

    name: str
    digest: str
    writable: bool
    activate_time: int


@dataclass(frozen=True, slots=True)
class OfferedSkill:
    """A skill as a run sees it."""

    name: str
    description: str
    digest: str
    active: bool
    writable: bool = False


class Skills(Protocol):
    """What can be asked about skills."""

    async def skill(self, workspace_id: str, name: str) -> Skill:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Skill]:
        """By name, after the name `after` ('' to begin)."""

    async def files(self, workspace_id: str, name: str, after: str, limit: int) -> list[SkillFile]:
        """By path, after `after`. Raises NotFound for a skill that is not there."""

    async def file(self, workspace_id: str, name: str, path: str) -> SkillFile:
        """Raises NotFound."""

    async def active(self, workspace_id: str, conversation_id: str, after: str, limit: int) -> list[ActiveSkill]:
        """By name, after `after`. Raises NotFound for a conversation that is not there."""

    async def offered(self, workspace_id: str, names: Sequence[str], conversation_id: str) -> list[OfferedSkill]:
        """Those of `names` that exist, by name."""


def digest_of(files: Sequence[SkillFile]) -> str:
    """Hex SHA-256 over paths, execute bits and bytes."""
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda one: one.path):
        whole.update(f"{file.path}\0{int(file.executable)}\0{file.sha256}\n".encode())
    return whole.hexdigest()


def add_skill(tx: Transaction, workspace_id: str, spec: SkillSpec) -> Skill:
    """Raises Conflict where the name is taken; LimitExceeded when the workspace has too many."""
    row = tx.one(_COUNT, {"workspace_id": workspace_id})
    if row is not None and row[0] >= MAX_SKILLS:
        raise LimitExceeded(f"The workspace has {MAX_SKILLS} skills, which is the most; delete some.")
    if not tx.execute(_INSERT, _params(tx, workspace_id, spec)):
        raise Conflict(f"There is a skill {spec.name!r} already; choose another name or update that one.")
    _write_files(tx, workspace_id, spec)
    return read_skill(tx, workspace_id, spec.name)


def change_skill(tx: Transaction, workspace_id: str, spec: SkillSpec, expected: int = 0) -> Skill:
    """Replace it with its files. Raises NotFound; Stale when it is not at the revision `expected` (0: any)."""
    row = tx.one(_UPDATE, {**_params(tx, workspace_id, spec), "expected": expected})
    if row is None:
        found = read_skill(tx, workspace_id, spec.name)
        raise Stale(f"The skill {spec.name!r} is at revision {found.revision} now. Read it again, then write.")
    _write_files(tx, workspace_id, spec)
    return _skill(row)


def remove_skill(tx: Transaction, workspace_id: str, name: str) -> None:
    """With its files and activations; the reaper drops bytes that nothing else refers to. Raises NotFound."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "name": name}
    if not tx.execute(_DELETE, params):
        raise NotFound.of("skill", name)
    tx.execute(_DELETE_FILES, params)
    tx.execute(_DELETE_ACTIVATIONS, params)


def set_active(tx: Transaction, workspace_id: str, conversation_id: str, name: str, active: bool) -> Skill:
    """Raises NotFound for a skill that is not there."""
    skill = read_skill(tx, workspace_id, name)
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "conversation_id": conversation_id, "name": name}
    if active:
        tx.execute(_ACTIVATE, {**params, "digest": skill.digest, "now": tx.now})
    else:
        tx.execute(_DEACTIVATE, params)
    return skill


def read_skill(tx: ReadTransaction, workspace_id: str, name: str) -> Skill:
    """Raises NotFound."""
    row = tx.one(_BY_NAME, {"workspace_id": workspace_id, "name": name})
    if row is None:
        raise NotFound.of("skill", name)
    return _skill(row)


def read_files(tx: ReadTransaction, workspace_id: str, name: str, after: str, limit: int) -> list[SkillFile]:
    """By path."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "name": name, "after": after, "limit": limit}
    return [_file(row) for row in tx.all(_FILES, params)]


def _params(tx: Transaction, workspace_id: str, spec: SkillSpec) -> dict[str, SqlValue]:
    return {
        "workspace_id": workspace_id,
        "name": spec.name,
        "description": spec.description,
        "instructions": spec.instructions,
        "source": spec.source,
        "version": spec.version,
        "digest": digest_of(spec.files),
        "writable": int(spec.writable),
        "now": tx.now,
    }


def _write_files(tx: Transaction, workspace_id: str, spec: SkillSpec) -> None:
    tx.execute(_DELETE_FILES, {"workspace_id": workspace_id, "name": spec.name})
    rows: list[dict[str, SqlValue]] = [
        {
            "workspace_id": workspace_id,
            "name": spec.name,
            "path": file.path,
            "sha256": file.sha256,
            "size": file.size,
            "executable": int(file.executable),
        }
        for file in spec.files
    ]
    tx.insert_many("skill_files", rows)


def _skill(row: Row) -> Skill:
    return Skill(*typed(row, (8, bool)))


def _file(row: Row) -> SkillFile:
    return SkillFile(*typed(row, (3, bool)))


class StoredSkills:
    """Skills in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def skill(self, workspace_id: str, name: str) -> Skill:
        return await self._reader.look(lambda tx: read_skill(tx, workspace_id, name))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Skill]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_skill(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def files(self, workspace_id: str, name: str, after: str, limit: int) -> list[SkillFile]:
        def query(tx: ReadTransaction) -> list[SkillFile]:
            read_skill(tx, workspace_id, name)
            return read_files(tx, workspace_id, name, after, limit)

        return await self._reader.run(query)

    async def file(self, workspace_id: str, name: str, path: str) -> SkillFile:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "name": name, "path": path}
        row = await self._reader.look(lambda tx: tx.one(_FILE, params))
        if row is None:
            raise NotFound.of("file of the skill", f"{name}/{path}")
        return _file(row)

    async def active(self, workspace_id: str, conversation_id: str, after: str, limit: int) -> list[ActiveSkill]:
        own: dict[str, SqlValue] = {"workspace_id": workspace_id, "conversation_id": conversation_id}

        def query(tx: ReadTransaction) -> list[ActiveSkill]:
            read_conversation(tx, workspace_id, conversation_id)
            rows = tx.all(_LISTED, {**own, "after": after, "limit": limit})
            return [ActiveSkill(*typed(row, (2, bool))) for row in rows]

        return await self._reader.run(query)

    async def offered(self, workspace_id: str, names: Sequence[str], conversation_id: str) -> list[OfferedSkill]:
        condition, params = one_of("name", names)
        sql = f"{_OFFERED} AND {condition} ORDER BY name"
        own: dict[str, SqlValue] = {"workspace_id": workspace_id, "conversation_id": conversation_id}

        def query(tx: ReadTransaction) -> list[OfferedSkill]:
            active = {row[0] for row in tx.all(_ACTIVE, {**own, "limit": MAX_SKILLS})} if conversation_id else set()
            rows = tx.all(sql, {"workspace_id": workspace_id, **params})
            return [
                OfferedSkill(name, description, digest, name in active, bool(writable))
                for name, description, digest, writable in rows
            ]

        return await self._reader.run(query) if names else []
