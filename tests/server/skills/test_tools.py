"""Skills as an agent's tools, through a run, in a real sandbox where one is needed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import BoxPolicy, ResourcePolicy
from portway.server.config import HostLimits
from portway.v1 import run_pull_pb2, skill_pb2, skill_pb2_grpc
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.sandbox import needs_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until

READING = ["activate", "list_skills", "read_skill_file"]


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


async def call(run: FakeRun, tool: str, **arguments: str) -> run_pull_pb2.ToolResult:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name=tool)
    for key, value in arguments.items():
        request.arguments[key] = value
    answers = await run.ask_all("call_tool", request)
    result: run_pull_pb2.ToolResult = answers[-1].call_tool.result
    return result


async def make_skill(host: Hosted, name: str, **files: str) -> None:
    skill = skill_pb2.Skill(name=name, description=f"About {name}.", instructions=f"Do {name}.", writable=True)
    await ask(host.channel, skill_pb2.CreateSkillRequest(skill=skill))
    for path, content in files.items():
        frames = [skill_pb2.WriteSkillFileRequest(name=name, path=path, data=content.encode())]
        await skill_pb2_grpc.SkillServiceStub(host.channel).WriteSkillFile(iter(frames))


def tools_of(run: FakeRun) -> list[str]:
    return [tool.name for tool in run.context.resources.tools]


async def test_an_agent_without_skills_has_none_of_the_tools(tmp_path: Path, author: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        assert tools_of(run) == [] and not run.context.resources.skills

    async with hosted(tmp_path, author) as host:
        await host.set_agent()
        await make_skill(host, "writing")
        await played(host, author, script)


async def test_without_a_sandbox_skills_are_listed_activated_and_read(tmp_path: Path, author: FakeRuntime) -> None:
    async def first(run: FakeRun) -> None:
        assert tools_of(run) == READING
        (offered,) = run.context.resources.skills
        assert (offered.name, offered.description, offered.active) == ("writing", "About writing.", False)
        assert (await call(run, "list_skills")).text == "writing: About writing."
        activated = await call(run, "activate", name="writing")
        assert activated.text.startswith("Do writing.") and "guide.md" in activated.text
        assert (await call(run, "read_skill_file", name="writing", path="guide.md")).text == "Be brief."
        for name in ("secret", "nothing"):
            refused = await call(run, "activate", name=name)
            assert refused.is_error and refused.text == f"no skill {name!r} in this workspace"
        assert (await call(run, "read_skill_file", name="secret", path="SKILL.md")).is_error
        assert (await call(run, "read_skill_file", name="writing", path="../SKILL.md")).is_error

    async def second(run: FakeRun) -> None:
        assert run.context.resources.skills[0].active
        assert (await call(run, "list_skills")).text == "writing (active): About writing."

    async with hosted(tmp_path, author) as host:
        await make_skill(host, "writing", **{"guide.md": "Be brief."})
        await make_skill(host, "secret")
        await host.set_agent(resource_policy=ResourcePolicy(skills=("writing", "nothing")))
        await played(host, author, first, chat="ada")
        await played(host, author, second, chat="ada")


@pytest.mark.parametrize("named", [(), ("register_skill",)])
async def test_writing_skills_needs_a_policy_that_names_it(
    tmp_path: Path, author: FakeRuntime, named: tuple[str, ...]
) -> None:
    async def script(run: FakeRun) -> None:
        assert ("register_skill" in tools_of(run)) == bool(named)

    async with hosted(tmp_path, author) as host:
        await make_skill(host, "writing")
        await host.set_agent(resource_policy=ResourcePolicy(skills=("writing",), tools=named))
        await played(host, author, script)


async def test_a_runner_that_cannot_write_skills_is_not_offered_it(tmp_path: Path, schema_runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        assert tools_of(run) == READING

    async with hosted(tmp_path, schema_runtime) as host:
        await make_skill(host, "writing")
        await host.set_agent(resource_policy=ResourcePolicy(skills=("writing",), tools=("register_skill",)))
        await played(host, schema_runtime, script)


@needs_sandbox
async def test_in_a_sandbox_a_skill_is_used_changed_and_written_back(
    tmp_path: Path, author: FakeRuntime, box: RealBox
) -> None:
    async def script(run: FakeRun) -> None:
        assert run.context.resources.skills[0].path == "/workspace/.skills/counting"
        early = await call(run, "register_skill", path="/workspace/.skills/counting")
        assert early.is_error
        activated = await call(run, "activate", name="counting")
        assert "in /workspace/.skills/counting/ of the sandbox" in activated.text
        assert "3" in (await call(run, "exec", command="sh .skills/counting/run.sh")).text
        changing = "cd .skills/counting && echo 'echo $((2 + 3))' > run.sh && mkdir -p new && echo x > new/file"
        assert not (await call(run, "exec", command=changing)).is_error
        saved = await call(run, "register_skill", path="/workspace/.skills/counting")
        assert not saved.is_error and saved.text == "saved the skill counting at revision 3", saved.text
        again = await call(run, "register_skill", path="/workspace/.skills/counting")
        assert again.text == "counting is unchanged"
        making = "mkdir -p fresh && printf -- '---\\nname: fresh\\ndescription: New.\\n---\\nHello.' > fresh/SKILL.md"
        assert not (await call(run, "exec", command=making)).is_error
        assert (await call(run, "register_skill", path="fresh")).text == "saved the skill fresh at revision 1"
        assert (await call(run, "register_skill", path="nowhere")).is_error
        linked = "mkdir -p linked && cp fresh/SKILL.md linked/ && ln -s /etc/passwd linked/passwd"
        assert not (await call(run, "exec", command=linked)).is_error
        refused = await call(run, "register_skill", path="linked")
        assert refused.is_error

    async with real(tmp_path, author, box) as host:
        await make_skill(host, "counting", **{"run.sh": "echo $((1 + 2))\n"})
        policy = ResourcePolicy(skills=("counting",), tools=("register_skill",))
        await host.set_agent(resource_policy=policy, box_policy=BoxPolicy(tools=("*",)))
        await played(host, author, script, chat="ada")
        files = await ask(host.channel, skill_pb2.ListSkillFilesRequest(name="counting"))
        assert [one.path for one in files.files] == ["SKILL.md", "new/file", "run.sh"]
        fresh = (await ask(host.channel, skill_pb2.GetSkillRequest(name="fresh"))).skill
        assert (fresh.source, fresh.writable, fresh.instructions) == ("agent:assistant", True, "Hello.")


@asynccontextmanager
async def real(folder: Path, runtime: FakeRuntime, box: Any) -> AsyncIterator[Hosted]:
    """A host that has found its box."""
    limits = HostLimits(drain=0.05, stop_grace=0.3, first_contact=10.0)
    async with hosted(folder, runtime, box=box, limits=limits) as host:
        await until(lambda: host.parts.box_link.availability().available)
        yield host
