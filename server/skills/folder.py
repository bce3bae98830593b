"""The operator's own folder of skills: each folder in it with a `SKILL.md` is one, and is read-only in the API."""

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import InvalidInput, PayloadTooLarge, PortwayError
from portway.server.skills.manage import FOLDER_SOURCE, Draft, SkillKeeper
from portway.server.skills.store import Skills
from portway.server.skills.types import MAX_FILE_BYTES, MAX_FILES, MAX_SKILL_BYTES, SKILL_FILE, Skill

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at the folder found. `problems` are for people."""

    skills: tuple[Skill, ...]
    problems: tuple[str, ...]


class SkillFolder:
    """Skills of one workspace, kept as the folder has them. `folder` None: there is none."""

    def __init__(self, folder: Path | None, workspace_id: str, keeper: SkillKeeper, skills: Skills) -> None:
        self._folder = folder
        self._workspace_id = workspace_id
        self._keeper = keeper
        self._skills = skills

    async def scan(self) -> Scan:
        """Look again: what is new or changed is taken over, what is gone is removed."""
        if self._folder is None:
            return Scan((), ("no folder of skills is configured; set host.skills to one",))
        drafts, problems = await asyncio.to_thread(_read_folder, self._folder)
        source = f"{FOLDER_SOURCE}{self._folder}"
        kept: list[Skill] = []
        for draft in drafts:
            try:
                skill, _ = await self._keeper.keep(self._workspace_id, draft, lambda skill: skill.source == source)
            except PortwayError as error:
                problems.append(f"{draft.fallback_name}: {error.message}")
            else:
                kept.append(skill)
        # A folder that cannot be read now is no reason to take its skill away.
        if not problems:
            await self._remove_others(source, {skill.name for skill in kept})
        return Scan(tuple(kept), tuple(problems))

    async def _remove_others(self, source: str, kept: set[str]) -> None:
        after = ""
        while page := await self._skills.page(self._workspace_id, after, _AT_ONCE):
            for skill in page:
                if skill.source == source and skill.name not in kept:
                    await self._keeper.forget(self._workspace_id, skill.name)
            after = page[-1].name


def _read_folder(folder: Path) -> tuple[list[Draft], list[str]]:
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        return [], [f"the folder of skills {folder} cannot be read ({error.strerror})"]
    drafts: list[Draft] = []
    problems: list[str] = []
    for name in entries:
        if not (folder / name / SKILL_FILE).is_file():
            continue
        try:
            drafts.append(Draft(_read_skill(folder / name), name, f"{FOLDER_SOURCE}{folder}"))
        except OSError as error:
            problems.append(f"{name}: it cannot be read ({error.strerror})")
        except PortwayError as error:
            problems.append(f"{name}: {error.message}")
    return drafts, problems


def _read_skill(root: Path) -> tuple[tuple[str, bytes, bool], ...]:
    files: list[tuple[str, bytes, bool]] = []
    total = 0
    for place, _, names, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(place, name), root)
            content, executable = _read_file(descriptor, name, path)
            total += len(content)
            files.append((path, content, executable))
            if len(files) > MAX_FILES or total > MAX_SKILL_BYTES:
                raise PayloadTooLarge(f"it has more than {MAX_FILES} files or {MAX_SKILL_BYTES // 1024 // 1024} MiB")
    return tuple(files)


def _read_file(folder: int, name: str, path: str) -> tuple[bytes, bool]:
    """Only real files: a link could show anything of the machine, and a pipe would never end."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(info.st_mode):
        raise InvalidInput(f"{path} is a link or a device, and only files are taken")
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"{path} is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    return content, bool(info.st_mode & 0o111)
