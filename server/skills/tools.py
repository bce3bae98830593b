"""Skills as tools: what an agent may look at, put into its sandbox, and write back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    OutOfRange,
    PortwayError,
    Reason,
    WrongState,
)
from portway.server.effects.types import Idempotency
from portway.server.skills import names
from portway.server.skills.document import NAME
from portway.server.skills.manage import Draft, SkillKeeper
from portway.server.skills.names import ACTIVATE, FOLDER, LIST, READ, REGISTER
from portway.server.skills.store import OfferedSkill, Skills
from portway.server.skills.types import MAX_FILE_BYTES, MAX_FILES, MAX_SKILL_BYTES, SKILL_FILE, Skill, SkillFile
from portway.server.storage_engine.blobs import Blobs
from portway.server.tools.arguments import Arguments
from portway.server.tools.box import BoxTools, FileKind, Search
from portway.server.tools.types import (
    Availability,
    BoxSession,
    ToolCall,
    ToolEvent,
    ToolProgress,
    ToolResult,
    ToolScope,
    ToolSpec,
    ToolType,
)

SOURCE_ID = "skill"

_TEXT_CHARS = 64_000
_LISTED_FILES = 100
# Files that say which packages a skill's Python programs need.
_NEEDS = frozenset({"requirements.txt", "pyproject.toml"})
# What the model can mend is its result; the rest is a failure of the call.
_REFUSED = (Conflict, InvalidInput, NotFound, NotPermitted, OutOfRange, LimitExceeded, WrongState)


def _spec(tool: str, idempotency: Idempotency, description: str, properties: Mapping[str, str]) -> ToolSpec:
    schema: Mapping[str, object] = {
        "type": "object",
        "properties": {key: {"type": "string", "description": text} for key, text in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return ToolSpec(tool, ToolType.SKILL, description, schema, idempotency)


SPECS: tuple[ToolSpec, ...] = (
    _spec(LIST, Idempotency.READ_ONLY, "Lists the skills: name, what each is for, and which are active here.", {}),
    _spec(
        ACTIVATE,
        Idempotency.IDEMPOTENT,
        "Makes a skill active in this conversation: returns its instructions, and has the sandbox show its files.",
        {"name": "Name of the skill."},
    ),
    _spec(
        READ,
        Idempotency.READ_ONLY,
        "Reads a text file of a skill, for agents without a sandbox.",
        {"name": "Name of the skill.", "path": "Path within the skill."},
    ),
    _spec(
        REGISTER,
        Idempotency.IDEMPOTENT,
        f"Saves a folder of the sandbox that holds a {SKILL_FILE} as a skill. A skill that exists can be changed only "
        "where it is active in this conversation and may be written.",
        {"path": "Folder in the sandbox."},
    ),
)


class SkillBytes(Protocol):
    """Where the bytes of skills are read."""

    async def read(self, workspace_id: str, sha256: str, offset: int, length: int) -> bytes:
        """At most `length` bytes."""


class SkillTools:
    """The source of the skill tools. What a run may use of them is in its scope."""

    source_id = SOURCE_ID

    def __init__(self, skills: Skills, keeper: SkillKeeper, blobs: Blobs, box: BoxTools) -> None:
        self._skills = skills
        self._keeper = keeper
        self._blobs: SkillBytes = blobs
        self._box = box

    def specs(self) -> tuple[ToolSpec, ...]:
        return SPECS

    def availability(self) -> Availability:
        return Availability(True)

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        arguments = Arguments(call.name, call.arguments)
        try:
            match call.name:
                case names.LIST:
                    arguments.end()
                    yield await self._list(scope)
                case names.ACTIVATE:
                    name = arguments.text("name")
                    arguments.end()
                    async for event in self._activate(scope, name):
                        yield event
                case names.READ:
                    name, path = arguments.text("name"), arguments.text("path")
                    arguments.end()
                    yield await self._read(scope, name, path)
                case _:
                    path = arguments.text("path")
                    arguments.end()
                    yield await self._register(scope, path)
        except _REFUSED as error:
            yield _refused(error)

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        # All of them may be called again, so nobody has to ask what became of a call.
        raise WrongState(f"call {call.name!r} again; doing so is safe", reason=Reason.EFFECT_UNKNOWN)

    async def _list(self, scope: ToolScope) -> ToolResult:
        found = await self._offered(scope)
        if not found:
            return ToolResult("there are no skills", {"skills": []})
        lines = [f"{one.name}{' (active)' if one.active else ''}: {one.description}" for one in found]
        data = [{"name": one.name, "active": one.active, "description": one.description} for one in found]
        return ToolResult("\n".join(lines), {"skills": data})

    async def _activate(self, scope: ToolScope, name: str) -> AsyncGenerator[ToolEvent, None]:
        skill = await self._find(scope, name)
        files = await self._skills.files(scope.workspace_id, name, "", MAX_FILES)
        if scope.conversation_id:
            await self._keeper.make_active(scope.workspace_id, scope.conversation_id, name)
        placed = note = ""
        if scope.session is not None:
            placed = f"{FOLDER}/{name}"
            yield ToolProgress(f"showing {name} in the sandbox")
            note = await self._shown(scope.session, name, files)
        text = "\n\n".join(part for part in (_activated(skill, files, placed), note) if part)
        yield ToolResult(text, {"name": name, "digest": skill.digest, "path": placed})

    async def _shown(self, session: BoxSession, name: str, files: list[SkillFile]) -> str:
        """What to say of the skill in the sandbox. A box that is away takes no skill away: it can still be read."""
        try:
            await self._box.show_skills(session)
            if not _NEEDS.intersection(file.path for file in files):
                return ""
            environment = await self._box.prepare_skill(session, name)
        except PortwayError as error:
            return f"(In the sandbox it cannot be used yet: {error.message}. Its files can be read with {READ}.)"
        return f"Run its Python programs with {environment}/bin/python." if environment else ""

    async def _read(self, scope: ToolScope, name: str, path: str) -> ToolResult:
        await self._find(scope, name)
        content = await self._content(scope.workspace_id, await self._skills.file(scope.workspace_id, name, path))
        if b"\0" in content[:8192]:
            return ToolResult(f"{path} is not a text file; it has {len(content)} bytes", is_error=True)
        text = content.decode(errors="replace")
        note = f"\n(The first {_TEXT_CHARS} of {len(text)} characters.)" if len(text) > _TEXT_CHARS else ""
        return ToolResult(text[:_TEXT_CHARS] + note, {"size": len(content)})

    async def _register(self, scope: ToolScope, path: str) -> ToolResult:
        if scope.session is None:
            raise WrongState("this agent has no sandbox to take a skill from")
        files = await self._collected(scope.session, path.rstrip("/") or ".")
        fallback = path.rstrip("/").rpartition("/")[2]
        draft = Draft(
            files, fallback if NAME.fullmatch(fallback) else "skill", f"agent:{scope.agent_id}", writable=True
        )
        active = {one.name for one in await self._offered(scope) if one.active}

        def may_replace(skill: Skill) -> bool:
            return skill.writable and skill.name in active

        skill, changed = await self._keeper.keep(scope.workspace_id, draft, may_replace)
        what = f"saved the skill {skill.name} at revision {skill.revision}" if changed else f"{skill.name} is unchanged"
        return ToolResult(what, {"name": skill.name, "revision": skill.revision, "digest": skill.digest})

    async def _collected(self, session: BoxSession, folder: str) -> tuple[tuple[str, bytes, bool], ...]:
        # Folders are found too, so there may be twice as many.
        everything, more = await self._box.glob(session, Search(folder, "**/*", limit=2 * MAX_FILES))
        found = [file for file in everything if file.kind is not FileKind.FOLDER]
        if more or len(found) > MAX_FILES:
            raise LimitExceeded(f"the folder {folder!r} has more than {MAX_FILES} files")
        other = next((file.path for file in found if file.kind is not FileKind.FILE), "")
        if other:
            raise InvalidInput.field("path", f"{other} is a link or a device, and only files are taken")
        if sum(file.size for file in found) > MAX_SKILL_BYTES:
            raise LimitExceeded(f"the folder {folder!r} is larger than {MAX_SKILL_BYTES // 1024 // 1024} MiB")
        root = _root_of([file.path for file in found], folder)
        files: list[tuple[str, bytes, bool]] = []
        for file in found:
            content = (await self._box.read(session, file.path, MAX_FILE_BYTES + 1)).data
            files.append((file.path.removeprefix(root), content, file.executable))
        return tuple(files)

    async def _find(self, scope: ToolScope, name: str) -> Skill:
        """Raises NotFound also for one that is there and not granted."""
        if name not in scope.skills:
            raise NotFound.of("skill", name)
        return await self._skills.skill(scope.workspace_id, name)

    async def _offered(self, scope: ToolScope) -> list[OfferedSkill]:
        return await self._skills.offered(scope.workspace_id, scope.skills, scope.conversation_id)

    async def _content(self, workspace_id: str, file: SkillFile) -> bytes:
        return await self._blobs.read(workspace_id, file.sha256, 0, file.size)


def _root_of(paths: list[str], folder: str) -> str:
    """The absolute path of the folder, with `/`: found by the SKILL.md nearest to the top."""
    tops = sorted((path for path in paths if path.rpartition("/")[2] == SKILL_FILE), key=len)
    if not tops:
        raise InvalidInput.field("path", f"the folder {folder!r} has no {SKILL_FILE}")
    root = tops[0].removesuffix(SKILL_FILE)
    if not all(path.startswith(root) for path in paths):
        raise InvalidInput.field("path", f"the folder {folder!r} has no {SKILL_FILE} of its own, only one deeper")
    return root


def _activated(skill: Skill, files: list[SkillFile], placed: str) -> str:
    parts = [skill.instructions or skill.description]
    others = [file for file in files if file.path != SKILL_FILE]
    if others:
        listed = "\n".join(f"{file.path}\t{file.size} bytes" for file in others[:_LISTED_FILES])
        where = f"in {placed}/ of the sandbox" if placed else f"to be read with {READ}"
        parts.append(f"Files of this skill, {where}:\n{listed}")
    return "\n\n".join(parts)


def _refused(error: PortwayError) -> ToolResult:
    return ToolResult(error.message, {"reason": str(error.reason)}, is_error=True)
