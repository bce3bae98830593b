"""What is promised of the store of skills, on every database."""

from functools import partial

import pytest

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.skills.store import StoredSkills, add_skill, change_skill, remove_skill, set_active
from portway.server.skills.types import Skill, SkillFile, SkillSpec
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction

WORKSPACE = "default"


def _activate(tx: Transaction, name: str) -> Skill:
    return set_active(tx, WORKSPACE, "cnv_1", name, True)


def a_skill(name: str = "writing", text: str = "Do it.", *paths: str) -> SkillSpec:
    files = tuple(SkillFile(path, f"{number:064x}", 10, path.endswith(".sh")) for number, path in enumerate(paths))
    return SkillSpec(name=name, description="d", instructions=text, files=files, source="api", writable=True)


async def add(database: Database, *specs: SkillSpec, workspace_id: str = WORKSPACE) -> None:
    for spec in specs:
        await database.writer.run(partial(add_skill, workspace_id=workspace_id, spec=spec))


async def test_a_skill_is_kept_with_its_files_in_order(database: Database) -> None:
    store = StoredSkills(database.reader)
    await add(database, a_skill("writing", "Do it.", "z", "SKILL.md", "run.sh"))
    kept = await store.skill(WORKSPACE, "writing")
    assert (kept.revision, kept.writable, kept.instructions, len(kept.digest)) == (1, True, "Do it.", 64)
    files = await store.files(WORKSPACE, "writing", "", 2)
    rest = await store.files(WORKSPACE, "writing", files[-1].path, 2)
    assert [file.path for file in (*files, *rest)] == ["SKILL.md", "run.sh", "z"]
    assert (await store.file(WORKSPACE, "writing", "run.sh")).executable
    with pytest.raises(NotFound):
        await store.file(WORKSPACE, "writing", "nothing")
    with pytest.raises(NotFound):
        await store.files(WORKSPACE, "nothing", "", 2)


async def test_a_name_is_taken_once_in_a_workspace(database: Database) -> None:
    await add(database, a_skill())
    with pytest.raises(Conflict):
        await add(database, a_skill())
    await add(database, a_skill(), workspace_id="other")


async def test_a_change_replaces_files_and_needs_the_right_revision(database: Database) -> None:
    store = StoredSkills(database.reader)
    await add(database, a_skill("writing", "One.", "SKILL.md", "a"))
    first = await store.skill(WORKSPACE, "writing")
    changed = await database.writer.run(
        lambda tx: change_skill(tx, WORKSPACE, a_skill("writing", "Two.", "SKILL.md"), 1)
    )
    assert (changed.revision, changed.instructions) == (2, "Two.") and changed.digest != first.digest
    assert [file.path for file in await store.files(WORKSPACE, "writing", "", 10)] == ["SKILL.md"]
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: change_skill(tx, WORKSPACE, a_skill("writing", "Three."), 1))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: change_skill(tx, WORKSPACE, a_skill("nothing")))


async def test_what_is_active_is_so_in_its_conversation_until_the_skill_goes(database: Database) -> None:
    store = StoredSkills(database.reader)
    await add(database, a_skill("a"), a_skill("b"), a_skill("c"))
    for name in ("a", "a", "b"):
        await database.writer.run(partial(_activate, name=name))
    offered = await store.offered(WORKSPACE, ["b", "a", "nothing"], "cnv_1")
    assert [(one.name, one.active) for one in offered] == [("a", True), ("b", True)]
    assert [one.active for one in await store.offered(WORKSPACE, ["a"], "cnv_2")] == [False]
    assert await store.offered(WORKSPACE, [], "cnv_1") == []
    await database.writer.run(lambda tx: set_active(tx, WORKSPACE, "cnv_1", "b", False))
    await database.writer.run(lambda tx: remove_skill(tx, WORKSPACE, "a"))
    await add(database, a_skill("a"))
    assert [one.active for one in await store.offered(WORKSPACE, ["a", "b"], "cnv_1")] == [False, False]
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: set_active(tx, WORKSPACE, "cnv_1", "nothing", True))


async def test_pages_go_by_name(database: Database) -> None:
    store = StoredSkills(database.reader)
    await add(database, a_skill("c"), a_skill("a"), a_skill("b"))
    page = await store.page(WORKSPACE, "", 2)
    assert [one.name for one in (*page, *await store.page(WORKSPACE, page[-1].name, 2))] == ["a", "b", "c"]
