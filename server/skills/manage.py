"""Making, changing and removing skills. Bytes go into the blob store first, then one transaction refers to them."""

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from portway.rpc.archive.paths import check_no_clash, checked_path
from portway.rpc.errors import Conflict, InvalidInput, LimitExceeded, PayloadTooLarge, Reason, WrongState
from portway.rpc.identity import Caller
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.conversations.store import read_conversation
from portway.server.skills.archive import MAX_ZIP_BYTES, PackedSkill, SkillArchive
from portway.server.skills.document import NAME, Document, read_document, write_document
from portway.server.skills.store import (
    Skills,
    add_skill,
    change_skill,
    digest_of,
    read_files,
    read_skill,
    remove_skill,
    set_active,
)
from portway.server.skills.types import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_SKILL_BYTES,
    SKILL_FILE,
    Skill,
    SkillFile,
    SkillSpec,
)
from portway.server.storage_engine.blobs import Blob, Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction

T = TypeVar("T")
FOLDER_SOURCE = "folder:"
"""How the source of a skill begins that is read from the operator's own folder."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Files of a skill that is to be; `files` hold paths, bytes and execute bits. One is its SKILL.md."""

    files: tuple[tuple[str, bytes, bool], ...]
    fallback_name: str
    source: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """What a zip would install."""

    specs: tuple[SkillSpec, ...]
    conflicts: tuple[str, ...]


class SkillKeeper:
    """Skills of all workspaces."""

    def __init__(self, database: Database, skills: Skills, blobs: Blobs) -> None:
        self._database = database
        self._skills = skills
        self._blobs = blobs

    async def create(
        self, caller: Caller, name: str, document: Document, writable: bool, request_id: str = ""
    ) -> Skill:
        """With a request id, the same skill again changes nothing. Raises InvalidInput, Conflict, LimitExceeded."""
        content = write_document(dataclasses.replace(document, name=name))
        spec = await self._kept(caller.workspace_id, Draft(((SKILL_FILE, content, False),), name, "api", writable))

        def unit(tx: Transaction) -> Skill:
            try:
                return add_skill(tx, caller.workspace_id, spec)
            except Conflict:
                found = read_skill(tx, caller.workspace_id, spec.name)
                if request_id and found.digest == digest_of(spec.files):
                    return found
                raise

        return await self._change(caller, "skill.create", spec.name, unit)

    async def update(self, caller: Caller, name: str, document: Document, writable: bool, expected: int) -> Skill:
        """Its description, instructions and version; the other files stay. Raises NotFound, Stale, WrongState."""
        content = write_document(dataclasses.replace(document, name=name))
        checked = read_document(content, SKILL_FILE)
        blob = await self._put(caller.workspace_id, content)

        def unit(tx: Transaction) -> Skill:
            skill, files = _current(tx, caller.workspace_id, name)
            changed = _with_file(files, SkillFile(SKILL_FILE, blob.sha256, blob.size))
            spec = _spec_of(skill, changed, checked, writable)
            return change_skill(tx, caller.workspace_id, spec, expected)

        return await self._change(caller, "skill.update", name, unit)

    async def delete(self, caller: Caller, name: str) -> None:
        """Raises NotFound, WrongState (kept by the folder)."""

        def unit(tx: Transaction) -> None:
            _current(tx, caller.workspace_id, name)
            remove_skill(tx, caller.workspace_id, name)

        await self._change(caller, "skill.delete", name, unit)

    async def write_file(self, caller: Caller, name: str, path: str, pieces: AsyncIterator[bytes]) -> SkillFile:
        """Raises NotFound, InvalidInput (path, SKILL.md), PayloadTooLarge, WrongState."""
        self._database.ensure_room()
        path = checked_path(path)
        await self._skills.skill(caller.workspace_id, name)
        async with self._blobs.upload(caller.workspace_id, MAX_FILE_BYTES) as upload:
            async for piece in pieces:
                await upload.write(piece)
            blob = await upload.finish()
        document = None
        if path == SKILL_FILE:
            document = read_document(await self._blobs.read(caller.workspace_id, blob.sha256, 0, blob.size), path)
            if document.name not in ("", name):
                raise InvalidInput.field("data", f"the SKILL.md of {name!r} names another skill: {document.name!r}")
        file = SkillFile(path, blob.sha256, blob.size)

        def unit(tx: Transaction) -> SkillFile:
            skill, files = _current(tx, caller.workspace_id, name)
            kept = next((one for one in files if one.path == path), file)
            written = dataclasses.replace(file, executable=kept.executable)
            spec = _spec_of(skill, _with_file(files, written), document, skill.writable)
            change_skill(tx, caller.workspace_id, spec)
            return written

        return await self._change(caller, "skill.write", f"{name}/{path}", unit)

    async def preview(self, caller: Caller, source_folder: str, suffix: str, pieces: AsyncIterator[bytes]) -> Preview:
        """Nothing stays of it but bytes that the reaper drops. Raises InvalidInput, PayloadTooLarge."""
        return await self._unpacked(caller, source_folder, suffix, pieces)

    async def install(
        self, caller: Caller, source_folder: str, suffix: str, pieces: AsyncIterator[bytes]
    ) -> list[Skill]:
        """All skills of the zip or none. Raises as `preview`, and Conflict naming what is taken."""
        found = await self._unpacked(caller, source_folder, suffix, pieces)
        if found.conflicts:
            taken = ", ".join(repr(name) for name in found.conflicts)
            raise Conflict(f"There are skills of these names already: {taken}. Give a suffix for the new ones.")

        def unit(tx: Transaction) -> list[Skill]:
            return [add_skill(tx, caller.workspace_id, spec) for spec in found.specs]

        return await self._change(caller, "skill.install", ", ".join(spec.name for spec in found.specs), unit)

    async def activate(self, caller: Caller, conversation_id: str, name: str, active: bool) -> bool:
        """Raises NotFound (conversation, skill)."""

        def unit(tx: Transaction) -> bool:
            read_conversation(tx, caller.workspace_id, conversation_id)
            set_active(tx, caller.workspace_id, conversation_id, name, active)
            return active

        return await self._change(caller, "skill.activate", name, unit)

    async def make_active(self, workspace_id: str, conversation_id: str, name: str) -> None:
        """For runs, whose calls are in their ledger. Raises NotFound."""
        await self._database.writer.run(lambda tx: set_active(tx, workspace_id, conversation_id, name, True))

    async def forget(self, workspace_id: str, name: str) -> None:
        """Remove a skill that its folder has no more. Raises NotFound."""
        await self._database.writer.run(lambda tx: remove_skill(tx, workspace_id, name))

    async def keep(self, workspace_id: str, draft: Draft, replacing: Callable[[Skill], bool]) -> tuple[Skill, bool]:
        """Make the skill, or replace the one of its name where `replacing` agrees; and whether anything changed.

        Raises Conflict where it does not agree, InvalidInput, LimitExceeded.
        """
        spec = await self._kept(workspace_id, draft)

        def unit(tx: Transaction) -> tuple[Skill, bool]:
            try:
                return add_skill(tx, workspace_id, spec), True
            except Conflict:
                found = read_skill(tx, workspace_id, spec.name)
                if not replacing(found):
                    raise
            files = read_files(tx, workspace_id, spec.name, "", MAX_FILES)
            if tuple(files) == tuple(sorted(spec.files, key=lambda one: one.path)):
                return found, False
            return change_skill(tx, workspace_id, dataclasses.replace(spec, writable=found.writable)), True

        return await self._database.writer.run(unit)

    async def _kept(self, workspace_id: str, draft: Draft) -> SkillSpec:
        """The draft with its bytes in the blob store."""
        self._database.ensure_room()
        paths = [checked_path(path) for path, _, _ in draft.files]
        check_no_clash(paths)
        if len(paths) > MAX_FILES:
            raise LimitExceeded(f"The skill has {len(paths)} files; {MAX_FILES} are allowed.")
        if sum(len(content) for _, content, _ in draft.files) > MAX_SKILL_BYTES:
            raise PayloadTooLarge(f"The skill is larger than {MAX_SKILL_BYTES // 1024 // 1024} MiB.")
        contents = {path: content for path, (_, content, _) in zip(paths, draft.files, strict=True)}
        if SKILL_FILE not in contents:
            raise InvalidInput(f"The skill {draft.fallback_name!r} has no {SKILL_FILE}.")
        document = read_document(contents[SKILL_FILE], f"{draft.fallback_name}/{SKILL_FILE}")
        name = document.name or draft.fallback_name
        if not NAME.fullmatch(name):
            raise InvalidInput.field("name", f"{name[:80]!r} may hold letters, digits, - and _ only, 64 at most")
        files: list[SkillFile] = []
        for path, (_, content, executable) in zip(paths, draft.files, strict=True):
            blob = await self._put(workspace_id, content)
            files.append(SkillFile(path, blob.sha256, blob.size, executable))
        return SkillSpec(
            name=name,
            description=document.description,
            instructions=document.instructions,
            version=document.version,
            source=draft.source,
            writable=draft.writable,
            files=tuple(files),
        )

    async def _put(self, workspace_id: str, content: bytes) -> Blob:
        if len(content) > MAX_FILE_BYTES:
            raise PayloadTooLarge(f"A file of a skill may have {MAX_FILE_BYTES // 1024 // 1024} MiB.")
        return await self._blobs.put(workspace_id, content)

    async def _unpacked(self, caller: Caller, source_folder: str, suffix: str, pieces: AsyncIterator[bytes]) -> Preview:
        self._database.ensure_room()
        with tempfile.TemporaryFile() as file:
            await _received(file, pieces)
            archive = await asyncio.to_thread(SkillArchive, file, source_folder)
            specs = [await self._packed(caller.workspace_id, archive, skill) for skill in archive.skills]
        names = [spec.name for spec in specs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput.field("data", f"two skills in the zip have the same name: {', '.join(twice)}")
        taken = await self._taken(caller.workspace_id, names)
        if suffix and taken:
            specs = [
                await self._renamed(caller.workspace_id, spec, suffix) if spec.name in taken else spec for spec in specs
            ]
            taken = await self._taken(caller.workspace_id, [spec.name for spec in specs])
        return Preview(tuple(specs), tuple(sorted(taken)))

    async def _packed(self, workspace_id: str, archive: SkillArchive, skill: PackedSkill) -> SkillSpec:
        files = []
        for packed in skill.files:
            files.append((packed.path, await asyncio.to_thread(archive.read, packed), packed.executable))
        fallback = skill.folder.rpartition("/")[2] or "skill"
        return await self._kept(workspace_id, Draft(tuple(files), fallback, "zip"))

    async def _renamed(self, workspace_id: str, spec: SkillSpec, suffix: str) -> SkillSpec:
        name = spec.name + suffix
        if not NAME.fullmatch(name):
            raise InvalidInput.field("target_suffix", f"{name[:80]!r} is no name of a skill")
        document = Document(name, spec.description, spec.version, spec.instructions)
        blob = await self._put(workspace_id, write_document(document))
        files = _with_file(spec.files, SkillFile(SKILL_FILE, blob.sha256, blob.size))
        return dataclasses.replace(spec, name=name, files=files)

    async def _taken(self, workspace_id: str, names: Sequence[str]) -> set[str]:
        return {skill.name for skill in await self._skills.offered(workspace_id, names, "")}

    async def _change(self, caller: Caller, action: str, name: str, unit: Callable[[Transaction], T]) -> T:
        def audited(tx: Transaction) -> T:
            result = unit(tx)
            append_audit(tx, [_record(caller, action, name)])
            return result

        return await self._database.writer.run(audited)


def _record(caller: Caller, action: str, name: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=f"skill {name}",
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
    )


async def _received(file: BinaryIO, pieces: AsyncIterator[bytes]) -> None:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > MAX_ZIP_BYTES:
            raise PayloadTooLarge(f"A zip of skills may have {MAX_ZIP_BYTES // 1024 // 1024} MiB.")
        await asyncio.to_thread(file.write, piece)
    if not size:
        raise InvalidInput.field("data", "the zip is empty")


def _current(tx: Transaction, workspace_id: str, name: str) -> tuple[Skill, tuple[SkillFile, ...]]:
    skill = read_skill(tx, workspace_id, name)
    if skill.source.startswith(FOLDER_SOURCE):
        raise WrongState(
            f"The skill {name!r} is kept by {skill.source}: change it there, then scan again.",
            reason=Reason.MANAGED_BY_CONFIG,
        )
    return skill, tuple(read_files(tx, workspace_id, name, "", MAX_FILES))


def _with_file(files: Sequence[SkillFile], file: SkillFile) -> tuple[SkillFile, ...]:
    changed = (*(one for one in files if one.path != file.path), file)
    check_no_clash([one.path for one in changed])
    if len(changed) > MAX_FILES:
        raise LimitExceeded(f"The skill has {MAX_FILES} files, which is the most.")
    if sum(one.size for one in changed) > MAX_SKILL_BYTES:
        raise PayloadTooLarge(f"With this file the skill would be larger than {MAX_SKILL_BYTES // 1024 // 1024} MiB.")
    return tuple(changed)


def _spec_of(skill: Skill, files: tuple[SkillFile, ...], document: Document | None, writable: bool) -> SkillSpec:
    return SkillSpec(
        name=skill.name,
        description=document.description if document else skill.description,
        instructions=document.instructions if document else skill.instructions,
        version=document.version if document else skill.version,
        source=skill.source,
        writable=writable,
        files=files,
    )
