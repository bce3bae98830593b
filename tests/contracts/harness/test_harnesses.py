"""What every harness does with a program that behaves, and with one that does not, in the box and on the machine."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict

from portway.runtime.harness import project
from portway.v1 import run_pb2
from tests.contracts.harness.stacks import PLACES, VENDORS, Harnessed, harnessed
from tests.deciding import WITHDRAWN, approvals, decide, one_pending_of
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [needs_sandbox, pytest.mark.asyncio(loop_scope="module")]
EVERY = [f"{runner}-{place}" for runner in VENDORS for place in PLACES]
# Of the run itself, and dead with it.
TOKENS = ("PORTWAY_RUN_TOKEN", "PORTWAY_BRIDGE_TOKEN")
SESSION = "0199a213-81c0-7800-8aa1-bbab2a035a53"
SCHEMA = Path(project.__file__).parent / "data" / "agent-context.schema.json"
CANARY = "canary-of-the-runtime-7f31"
# All that a program may find in its environment; what a session gives everything that runs in it comes last.
VARIABLES = {
    *("HOME", "PATH", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "NO_COLOR", *TOKENS),
    *("AGENT_CONTEXT", "AGENT_OUTBOX", "AGENT_MCP_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"),
    *("CLAUDE_CONFIG_DIR", "CODEX_HOME", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_AUTOUPDATER"),
    *("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    *("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "_"),
}
FAILURES = {
    "empty": "harness.empty_output",
    "badjson": "harness.bad_output",
    "huge": "harness.bad_output",
    "exit3": "harness.nonzero_exit",
    "crash": "harness.crashed",
    "terminated": "harness.crashed",
    "binary": "harness.bad_output",
    "half": "harness.bad_output",
    "no_result": "harness.bad_output",
    "login": "harness.login_required",
}
# Any output of a command is its answer.
ANSWERS_OF_COMMANDS = ("badjson", "binary", "half", "no_result")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harnessed]:
    folder: Path = tmp_path_factory.mktemp("harness")
    # What is mounted is read as the session's own user.
    for one in (folder, *folder.parents[:3]):
        one.chmod(0o755)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ANTHROPIC_API_KEY", f"{CANARY}-of-a-provider")
        environment.setenv("SOME_SECRET", CANARY)
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
        expected |= dict.fromkeys(ANSWERS_OF_COMMANDS, "")
    told = await asyncio.gather(*(stack.say(agent, f"{word} x") for word in expected))
    assert {word: one.code for word, one in zip(expected, told, strict=True)} == expected
    failed = told[list(expected).index("exit3")].run.error.message
    assert "exit code 3" in failed and "it failed with ***" in failed
    assert not [one for one in told if "\0" in one.run.error.message or len(one.run.error.message) > 2_500]
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
    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert document["run_id"] == context.run.run_id
    assert document["input"]["text"] == "context x"
    assert set(document) == {"schema", "schema_version", "run_id"} | set(
        "event actor subject input delivery resources context state runtime".split()
    )
    assert "run_token" not in context.text and "pw_" not in context.text
    seen = json.loads(environment.text)
    assert not set(seen["env"]) - VARIABLES
    assert CANARY not in seen["whole"] and "HOME=" in seen["whole"]
    inside = "/workspace" if agent.endswith("-box") else str(stack.allowed)
    assert seen["home"].startswith(inside) and seen["cwd"].startswith(inside)
    assert noisy.text == "after much noise"


@pytest.mark.parametrize("agent", EVERY)
async def test_it_asks_the_runs_bridge_as_its_harness_does(stack: Harnessed, agent: str) -> None:
    told = await stack.say(agent, "bridge x")
    answer = json.loads(told.text)
    assert answer["id"] == 2 and not answer["result"]["isError"], answer
    found = answer["result"]["structuredContent"]
    assert (found["run_id"], found["input"]["text"]) == (told.run.run_id, "bridge x")
    # Its token was in files of the run, and they are gone with it.
    left = [
        one
        for one in stack.allowed.rglob("*")
        if one.name in ("mcp.json", "bridge.json") and told.run.run_id in str(one)
    ]
    assert not left


@pytest.mark.parametrize("agent", [one for one in EVERY if not one.startswith("exec-")])
async def test_the_next_message_resumes_the_session(stack: Harnessed, agent: str) -> None:
    talk = f"resume-{agent}"
    first = await stack.say(agent, "arguments x", talk)
    second = await stack.say(agent, "arguments x", talk)
    assert SESSION not in json.loads(first.text)
    # Every process of the machine can read arguments.
    assert "pw_" not in first.text and "pw_" not in second.text
    assert SESSION in json.loads(second.text)
    if not agent.startswith("acp-"):  # which loads its session before it hears what the message says
        assert (await stack.say(agent, "refuse_resume began anew", talk)).text == "began anew"


@pytest.mark.parametrize("agent", [one for one in EVERY if not one.startswith("exec-")])
async def test_what_is_unknown_or_comes_too_late_changes_nothing(stack: Harnessed, agent: str) -> None:
    unknown, after = await asyncio.gather(stack.say(agent, "unknown all well"), stack.say(agent, "after the answer"))
    assert (unknown.run.state, unknown.text) == (run_pb2.RUN_STATE_COMPLETED, "all well"), unknown.run.error
    assert (after.run.state, after.text) == (run_pb2.RUN_STATE_COMPLETED, "the answer"), after.run.error


@pytest.mark.parametrize("agent", EVERY)
async def test_files_of_a_message_are_there_under_names_that_stay_there(stack: Harnessed, agent: str) -> None:
    files = [("cat.png", b"\x89PNG" * 100_000), ("../../cat.png", b"another"), ("..", b"dots"), ("-rf *.txt", b"x")]
    told = await stack.send_files(agent, "received these", files)
    assert told.run.state == run_pb2.RUN_STATE_COMPLETED, told.run.error
    seen = json.loads(told.text)
    names = ["cat.png", "cat-2.png", "file.txt", "rf _.txt"]
    assert seen["files"] == [
        [name, len(content), hashlib.sha256(content).hexdigest(), True]
        for name, (_, content) in zip(names, files, strict=True)
    ]
    if not agent.startswith("acp-"):  # which is given links
        assert all(f"/files/{name}" in seen["prompt"] for name in names)


@pytest.mark.parametrize("agent", EVERY)
async def test_files_that_it_makes_come_with_its_answer(stack: Harnessed, agent: str) -> None:
    """Plain files alone: no link, no pipe, nothing hidden."""
    made = await stack.made(agent, "make some")
    assert made == {"report.txt": b"made by the program", "deep.csv": b"a,b"}


async def test_each_conversation_has_a_session_of_its_own(stack: Harnessed) -> None:
    """What one conversation keeps is never given to another."""
    for agent in ("claude-code-box", "codex-machine"):
        await stack.say(agent, "ok begun", f"one-{agent}")
        other = await stack.say(agent, "arguments x", f"two-{agent}")
        assert SESSION not in json.loads(other.text)
        assert SESSION in json.loads((await stack.say(agent, "arguments x", f"one-{agent}")).text)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("approve", [True, False])
async def test_what_an_agent_asks_for_waits_for_a_person(stack: Harnessed, place: str, approve: bool) -> None:
    """For this once, whatever else the agent offers; the whole of what it says is covered by the digest."""
    async with stack.stack.client() as host:
        begun = await stack.begin(f"acp-{place}-ask", "ask x")
        approval = await one_pending_of(host.runs.stub, begun.run_id)
        assert (await host.runs.get(begun.run_id)).state == run_pb2.RUN_STATE_WAITING
        assert approval.title == "execute: Remove everything"
        shown = MessageToDict(approval.details)["arguments"]
        assert shown["details"]["arguments"]["command"] == "rm -rf /srv"
        assert "20000 characters in all" in shown["details"]["arguments"]["why"] and len(shown["content_digest"]) == 64
        await decide(host.runs.stub, approval, approve=approve)
        async for _ in host.runs.watch(begun.run_id):
            pass
        answer = (await host.history(begun.conversation_id)).items[-1].content
    assert json.loads(answer) == {"outcome": "selected", "optionId": "once" if approve else "no"}


async def test_a_cancelled_question_is_withdrawn_and_nothing_is_left(stack: Harnessed) -> None:
    async with stack.stack.client() as host:
        begun = await stack.begin("acp-box-ask", "ask x")
        await one_pending_of(host.runs.stub, begun.run_id)
        await host.runs.cancel(begun.run_id)
        async for _ in host.runs.watch(begun.run_id):
            pass
        (after,) = await approvals(host.runs.stub, run_id=begun.run_id)
        assert after.state == WITHDRAWN
    await nothing_left(stack)


async def test_by_default_what_an_agent_asks_for_is_refused(stack: Harnessed) -> None:
    assert json.loads((await stack.say("acp-box", "ask x")).text)["optionId"] == "no"
