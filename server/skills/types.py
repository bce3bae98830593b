"""What a skill is."""

from dataclasses import dataclass

SKILL_FILE = "SKILL.md"
"""What makes a folder a skill: front matter with `name`, `description` and `version`, then the instructions."""

MAX_FILES = 500
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_SKILL_BYTES = 32 * 1024 * 1024
MAX_INSTRUCTION_BYTES = 256 * 1024
MAX_SKILLS = 1_000
"""Skills of one workspace."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill. `digest` (hex) covers names, bytes and execute bits of all files. `source` says who keeps it."""

    workspace_id: str
    name: str
    revision: int
    description: str
    instructions: str
    source: str
    version: str
    digest: str
    writable: bool
    create_time: int
    update_time: int


@dataclass(frozen=True, slots=True)
class SkillFile:
    """One file. `path` is relative, with `/`; `sha256` names the blob that holds the bytes."""

    path: str
    sha256: str
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSpec:
    """What a skill is to be: its files as they are in the blob store, and what its `SKILL.md` says."""

    name: str
    description: str
    instructions: str
    version: str = ""
    source: str = ""
    writable: bool = False
    files: tuple[SkillFile, ...] = ()
