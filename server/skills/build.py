"""Putting the skills of a host together."""

from dataclasses import dataclass
from pathlib import Path

from portway.server.skills.folder import SkillFolder
from portway.server.skills.manage import SkillKeeper
from portway.server.skills.store import StoredSkills
from portway.server.skills.tools import SkillTools
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.tools.box import BoxTools
from portway.server.workspaces.types import DEFAULT_WORKSPACE


@dataclass(frozen=True, slots=True)
class SkillParts:
    """What others use of the skills."""

    store: StoredSkills
    keeper: SkillKeeper
    folder: SkillFolder
    tools: SkillTools


def build_skills(database: Database, blobs: Blobs, box: BoxTools, folder: Path | None) -> SkillParts:
    """`folder` is the operator's own; its skills are those of the default workspace."""
    store = StoredSkills(database.reader)
    keeper = SkillKeeper(database, store, blobs)
    return SkillParts(
        store=store,
        keeper=keeper,
        folder=SkillFolder(folder, DEFAULT_WORKSPACE, keeper, store),
        tools=SkillTools(store, keeper, blobs, box),
    )
