"""Skills of an agent in the sandbox of its runs: there from the start, changed while it lives, and while it is away."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from portway.server.agents.types import BoxPolicy, ResourcePolicy
from portway.v1 import skill_pb2, skill_pb2_grpc
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.sandbox import needs_sandbox
from tests.server.hosting import Hosted
from tests.server.playing import played
from tests.server.skills.test_tools import call, make_skill, real
from tests.server.tools.real_box import RealBox, running_box

MINE = "/workspace/.skills/counting"


@pytest.fixture
async def author() -> AsyncIterator[FakeRuntime]:
    """A runtime whose runner can write skills."""
    manifest = a_manifest()
    manifest.capabilities.skill_authoring = True
    async with serve_fake_runtime(FakeRuntime(manifest=manifest)) as serving:
        yield serving


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RealBox]:
    folder = tmp_path / "box"
    folder.mkdir()
    with running_box(folder) as running:
        yield running


async def said(run: FakeRun, command: str) -> str:
    answer = await call(run, "exec", command=command)
    return answer.text.partition("\n")[2]


async def prepare(host: Hosted, *skills: str) -> None:
    for name in skills:
        await make_skill(host, name, **{"data.txt": f"data of {name}\n"})
    policy = ResourcePolicy(skills=skills, tools=("register_skill",))
    await host.set_agent(resource_policy=policy, box_policy=BoxPolicy(tools=("*",)))


@needs_sandbox
async def test_all_skills_of_the_agent_are_there_and_only_an_active_writable_one_can_be_changed(
    tmp_path: Path, author: FakeRuntime, box: RealBox
) -> None:
    async def script(run: FakeRun) -> None:
        shown = await said(run, "ls .skills; cat .skills/*/data.txt")
        assert shown == "counting\nwriting\ndata of counting\ndata of writing"
        assert "refused" in await said(run, f"touch {MINE}/x 2>/dev/null || echo refused")
        assert f"in {MINE}/ of the sandbox" in (await call(run, "activate", name="counting")).text
        changing = f"touch {MINE}/x && ls {MINE}; touch .skills/writing/x 2>/dev/null || echo refused"
        assert await said(run, changing) == "SKILL.md\ndata.txt\nx\nrefused"
        assert (await call(run, "read", path=f"{MINE}/data.txt")).text.startswith("1\tdata of counting")
        assert (await call(run, "write", path=".skills/writing/data.txt", content="x")).is_error

    async with real(tmp_path, author, box) as host:
        await prepare(host, "counting", "writing")
        await make_skill(host, "secret")
        await played(host, author, script, chat="ada")


@needs_sandbox
async def test_what_changes_on_the_host_reaches_the_live_session_with_its_files(
    tmp_path: Path, author: FakeRuntime, box: RealBox
) -> None:
    async def first(run: FakeRun) -> None:
        assert await said(run, f"echo kept > mine; echo also > /tmp/mine; cat {MINE}/data.txt") == "data of counting"

    async def second(run: FakeRun) -> None:
        assert await said(run, f"cat mine /tmp/mine {MINE}/data.txt") == "kept\nalso\nchanged"
        assert await said(run, f"touch {MINE}/x && echo written") == "written"

    async def third(run: FakeRun) -> None:
        assert await said(run, f"touch {MINE}/y 2>/dev/null || echo refused; cat mine") == "refused\nkept"

    async with real(tmp_path, author, box) as host:
        await prepare(host, "counting")
        conversation = (await played(host, author, first, chat="ada")).conversation_id
        stub = skill_pb2_grpc.SkillServiceStub(host.channel)
        frames = [skill_pb2.WriteSkillFileRequest(name="counting", path="data.txt", data=b"changed\n")]
        await stub.WriteSkillFile(iter(frames))
        request = skill_pb2.ActivateSkillRequest(name="counting", conversation_id=conversation, active=True)
        await ask(host.channel, request)
        await played(host, author, second, chat="ada")
        request.active = False
        await ask(host.channel, request)
        await played(host, author, third, chat="ada")


@needs_sandbox
async def test_a_box_that_went_away_takes_no_skill_away(tmp_path: Path, author: FakeRuntime, box: RealBox) -> None:
    async def script(run: FakeRun) -> None:
        assert await said(run, f"cat {MINE}/data.txt") == "data of counting"
        box.kill()
        activated = await call(run, "activate", name="counting")
        assert activated.text.startswith("Do counting.") and "cannot be used yet" in activated.text, activated.text
        assert (await call(run, "read_skill_file", name="counting", path="data.txt")).text == "data of counting\n"
        assert "(active)" in (await call(run, "list_skills")).text
        refused = await call(run, "register_skill", path=MINE)
        assert refused.is_error and "box" in refused.text
        box.start()
        assert (await said(run, f"touch {MINE}/x && cat {MINE}/data.txt")).endswith("data of counting")

    async with real(tmp_path, author, box) as host:
        await prepare(host, "counting")
        await played(host, author, script, chat="ada")


@needs_sandbox
async def test_packages_that_cannot_be_had_are_told_and_the_skill_stays_active(
    tmp_path: Path, author: FakeRuntime, box: RealBox
) -> None:
    async def script(run: FakeRun) -> None:
        activated = await call(run, "activate", name="counting")
        assert not activated.is_error, activated.text
        assert "surely-missing" in activated.text and "wheels" in activated.text, activated.text
        assert await said(run, f"cat {MINE}/requirements.txt") == "surely-missing==9"

    async with real(tmp_path, author, box) as host:
        await make_skill(host, "counting", **{"requirements.txt": "surely-missing==9\n"})
        await host.set_agent(resource_policy=ResourcePolicy(skills=("counting",)), box_policy=BoxPolicy(tools=("*",)))
        await played(host, author, script, chat="ada")
