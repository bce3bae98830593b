"""What every harness does with a program that behaves, and with one that does not, in the box and on the machine."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from portway.v1 import run_pb2
from tests.contracts.harness.stacks import PLACES, VENDORS, Harnessed, harnessed
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [needs_sandbox, pytest.mark.asyncio(loop_scope="module")]
EVERY = [f"{runner}-{place}" for runner in VENDORS for place in PLACES]
# Of the run itself, and dead with it.
TOKENS = ("PORTWAY_RUN_TOKEN", "PORTWAY_BRIDGE_TOKEN")
FAILURES = {
    "empty": "harness.empty_output",
    "badjson": "harness.bad_output",
    "huge": "harness.bad_output",
    "exit3": "harness.nonzero_exit",
    "crash": "harness.crashed",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harnessed]:
    folder: Path = tmp_path_factory.mktemp("harness")
    # What is mounted is read as the session's own user.
    for one in (folder, *folder.parents[:3]):
        one.chmod(0o755)
    async with harnessed(folder) as serving:
        yield serving


async def nothing_left(stack: Harnessed) -> None:
    await until(lambda: not stack.processes())


@pytest.mark.parametrize("agent", EVERY)
async def test_an_answer_reaches_the_person(stack: Harnessed, agent: str) -> None:
    told = await stack.say(agent, "ok hello from the program")
    assert (told.run.state, told.text) == (run_pb2.RUN_STATE_COMPLETED, "hello from the program"), told.run.error


@pytest.mark.parametrize("agent", EVERY)
async def test_text_is_streamed_and_tools_are_shown(stack: Harnessed, agent: str) -> None:
    streamed, tool = await asyncio.gather(stack.say(agent, "streamed one two three"), stack.say(agent, "tool x"))
    assert streamed.text.strip() == "one two three"
    assert "".join(streamed.streamed).strip() == "one two three"
    assert tool.text == "after the tool"
    assert (
        tool.tools
        == {"claude": ("Read",), "codex": ("shell",), "acp": ("Read",), "plain": ()}[VENDORS[agent.rpartition("-")[0]]]
    )


@pytest.mark.parametrize("agent", EVERY)
async def test_every_way_to_fail_has_its_code_and_leaves_nothing(stack: Harnessed, agent: str) -> None:
    expected = dict(FAILURES)
    if agent.startswith("exec-"):
        expected["badjson"] = ""
    told = await asyncio.gather(*(stack.say(agent, f"{word} x") for word in expected))
    assert {word: one.code for word, one in zip(expected, told, strict=True)} == expected
    failed = told[list(expected).index("exit3")].run.error.message
    assert "exit code 3" in failed and "it failed with ***" in failed
    absent = await stack.say(f"{agent}-absent", "ok hello")
    assert absent.code == "harness.cli_missing" and "/nowhere/program" in absent.run.error.message
    await nothing_left(stack)
    assert (await stack.say(agent, "ok still well")).text == "still well"


@pytest.mark.parametrize("agent", EVERY)
async def test_what_takes_too_long_is_ended_with_its_children(stack: Harnessed, agent: str) -> None:
    words = ("slow", "stubborn")
    told = await asyncio.gather(*(stack.say(f"{agent}-short", f"{word} x") for word in words))
    assert [one.code for one in told] == ["harness.timeout"] * 2
    await nothing_left(stack)


@pytest.mark.parametrize("agent", EVERY)
async def test_a_cancelled_run_leaves_nothing(stack: Harnessed, agent: str) -> None:
    begun = [await stack.begin(agent, f"{word} x") for word in ("slow", "stubborn")]
    await until(lambda: len(stack.processes()) >= 4)
    async with stack.stack.client() as host:
        for one in begun:
            await host.runs.cancel(one.run_id)
        for one in begun:
            async for _ in host.runs.watch(one.run_id):
                pass
            assert (await host.runs.get(one.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    await nothing_left(stack)


@pytest.mark.parametrize("agent", EVERY)
async def test_children_that_are_left_behind_end_with_the_program(stack: Harnessed, agent: str) -> None:
    told = await stack.say(agent, "children x")
    assert told.text == "left some behind"
    await nothing_left(stack)


@pytest.mark.parametrize("agent", EVERY)
async def test_it_is_told_of_its_run_and_of_nothing_else(stack: Harnessed, agent: str) -> None:
    context, environment, noisy = await asyncio.gather(
        stack.say(agent, "context x"), stack.say(agent, "environment x"), stack.say(agent, "noise x")
    )
    document = json.loads(context.text)
    assert (document["schema"], document["schema_version"]) == ("portway.agent-context", 1)
    assert document["run_id"] == context.run.run_id
    assert document["input"]["text"] == "context x"
    assert set(document) == {"schema", "schema_version", "run_id"} | set(
        "event actor subject input delivery resources context state runtime".split()
    )
    assert "run_token" not in context.text and "pw_" not in context.text
    seen = json.loads(environment.text)
    assert not [name for name in seen["env"] if name.startswith("PORTWAY") and name not in TOKENS]
    inside = "/workspace" if agent.endswith("-box") else str(stack.allowed)
    assert seen["home"].startswith(inside) and seen["cwd"].startswith(inside)
    assert noisy.text == "after much noise"


@pytest.mark.parametrize("agent", [one for one in EVERY if not one.startswith("exec-")])
async def test_the_next_message_resumes_the_session(stack: Harnessed, agent: str) -> None:
    talk = f"resume-{agent}"
    first = await stack.say(agent, "arguments x", talk)
    second = await stack.say(agent, "arguments x", talk)
    session = "0199a213-81c0-7800-8aa1-bbab2a035a53"
    assert session not in json.loads(first.text)
    # Every process of the machine can read arguments.
    assert "pw_" not in first.text and "pw_" not in second.text
    assert session in json.loads(second.text)
    if not agent.startswith("acp-"):  # which loads its session before it hears what the message says
        assert (await stack.say(agent, "refuse_resume began anew", talk)).text == "began anew"
