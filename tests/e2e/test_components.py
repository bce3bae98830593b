"""Tools and event listeners of plugins through the whole: `portway up`, real plugins in processes of their own."""

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.clients.host import Portway
from portway.v1 import audit_pb2, run_pb2
from tests.e2e.stack import Stack, started, until
from tests.waiting import until_told

PLUGINS = Path(__file__).parent / "plugins"
WATCH = "tests/watcher/watch"
CONFIG = """
runtime:
  plugins: [{folder}]
agents:
- agent_id: asker
  runner_id: "plugin:tests/asker/default"
  resource_policy: {{tools: ["plugin:tests/watcher/notes"]}}
"""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    folder = tmp_path / "plugins"
    shutil.copytree(PLUGINS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    async with started(tmp_path, config=CONFIG.format(folder=folder)) as running:
        yield running


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the watcher writes down what it sees."""
    return tmp_path / "plugins" / "watcher"


def lines(folder: Path, name: str) -> list[str]:
    try:
        return (folder / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


async def said(host: Portway, text: str) -> None:
    await host.send(text, conversation_id="watched", agent_id="asker")


async def listener(stack: Stack) -> dict[str, object]:
    found = (await stack.portway("listener", "list", "--json")).out
    return next(one for one in json.loads(found) if one["listener_id"] == WATCH)


async def test_a_listener_observes_what_is_accepted_and_outlives_crashes_of_itself_and_of_the_host(
    stack: Stack, kept: Path
) -> None:
    async with stack.client() as host:
        await said(host, '{"text": "before it was enabled"}')
        assert (await stack.portway("listener", "enable", WATCH)).code == 0
        for text in ("one", "crash once", "overreach", "two"):
            await said(host, text)
        await until(lambda: any(" two " in line for line in lines(kept, "seen")), "the listener to see `two`")
    first = lines(kept, "seen")
    # Twice is possible: it is told again what it may not have seen.
    assert {line.split(" ", 2)[2] for line in first} == {
        f"{text} run True" for text in ("one", "crash once", "overreach", "two")
    }
    assert lines(kept, "met").count("crash once") >= 2
    assert not any("before it was enabled" in line for line in first)

    await asked_for_more(stack, kept)
    pid = await stack.kill("host")
    await stack.restarted("host", pid)
    async with stack.client() as host:
        await said(host, "three")
        await until(lambda: any(" three " in line for line in lines(kept, "seen")), "the listener to see `three`")
        numbers = [int(line.split()[0]) for line in lines(kept, "seen")]
        # In order, and from where it was: what the host had seen acknowledged is not shown again.
        assert numbers == sorted(numbers) and Counter(numbers)[numbers[0]] >= 1
        await until(lambda: bool(lines(kept, "batches")), "a batch")
    assert all(line.endswith(" 0 default") for line in lines(kept, "batches"))
    assert (await listener(stack))["enabled"]
    assert (await stack.portway("listener", "disable", WATCH)).code == 0
    missing = await stack.portway("listener", "enable", "tests/watcher/nobody")
    assert missing.code != 0 and WATCH in missing.err


async def asked_for_more(stack: Stack, kept: Path) -> None:
    """A listener may keep things in its storage; everything else is refused, and that is written down."""
    calls = ("page_history", "list_storage", "set_state", "call_tool")
    assert set(lines(kept, "refused")) == {", ".join(f"{call} NotPermitted" for call in calls)}
    names = ("PageHistory", "ListStorage", "SetState", "CallTool")
    wanted = {(name, f"EventListener {WATCH}", False) for name in names}
    async with stack.client() as host:

        async def is_written_down() -> bool:
            page = await host.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(actor=WATCH, page_size=200))
            return {(one.action, one.resource, one.allowed) for one in page.audit_entries} == wanted

        # Refusals are written down behind the answer.
        await until_told(is_written_down)


async def test_a_run_calls_the_tool_of_another_plugin_which_knows_who_asks(stack: Stack) -> None:
    async with stack.client() as host:
        told = []
        for text in ("first", "second"):
            accepted = await host.send(json.dumps({"text": text}), conversation_id="asked", agent_id="asker")
            async for _ in host.runs.watch(accepted.run_id):
                pass
            run = await host.runs.get(accepted.run_id)
            assert run.state == run_pb2.RUN_STATE_COMPLETED
            told.append((accepted.run_id, json.loads((await host.history("asked")).items[-1].content)))
        accepted = await host.send('{"text": 3}', conversation_id="wrong", agent_id="asker")
        async for _ in host.runs.watch(accepted.run_id):
            pass
        answer = (await host.history("wrong")).items[-1].content
        assert answer.startswith("InvalidInput: ") and "arguments.text" in answer
    assert [answer["text"] for _, answer in told] == ["before: ", "before: first"]
    for run_id, answer in told:
        assert answer["files"] == [300_000 + len("first") + (run_id == told[1][0])]
        assert answer["data"] == {
            "caller": "plugin:tests/asker/default",
            "run": run_id,
            "workspace": "default",
            "left": True,
        }
