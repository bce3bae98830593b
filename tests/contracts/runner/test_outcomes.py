"""What becomes of whatever a runner does, as people and operators see it: the table in docs/plugins.md, row by row.

Everything is real: `portway up`, and the plugin of each implementation in it. After each row the next run must answer.
"""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from portway.clients.host import Portway
from portway.v1 import run_pb2
from tests.contracts.runner.conftest import IMPLEMENTATIONS, PARAMETERS
from tests.e2e.stack import Stack, started

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"
ROW = re.compile(r"^\| `(?P<word>\w+)` \|.*\| (?P<state>\w+) \| (?:`(?P<code>[\w.]+)`|—) \|", re.MULTILINE)
CONFIG = """
runtime:
  plugins: [{folder}]
agents:
- {{agent_id: tested, runner_id: "{runner_id}"}}
- {{agent_id: hurried, runner_id: "{runner_id}", timeout: 1s}}
"""
MESSAGES = {"ok": "ok hello", "streamed": "streamed a b c", "flood": "flood 100000", "history": "history 5"}
# What the SDK does not let an author do, and what it makes of it where there is such a word.
IMPOSSIBLE = {"no_terminal", "wrong_sequence", "wrong_run", "unknown_kind", "raw_oversize", "call_after_end"}
BY_THE_SDK = {"after_terminal": ("failed", "runner.empty_output")}


def outcomes() -> Mapping[str, tuple[str, str]]:
    """State and code by word, as the page promises them."""
    return {row["word"]: (row["state"], row["code"] or "") for row in ROW.finditer(PAGE.read_text("utf-8"))}


def expected(implementation: str) -> Mapping[str, tuple[str, str]]:
    promised = outcomes()
    assert len(promised) >= 18, "the table of docs/plugins.md was not understood"
    if implementation == "python-sdk":
        return {word: what for word, what in promised.items() if word not in IMPOSSIBLE} | BY_THE_SDK
    return promised


@pytest.fixture(params=PARAMETERS)
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    implementation = IMPLEMENTATIONS[request.param]
    config = CONFIG.format(folder=implementation.folder(tmp_path), runner_id=implementation.runner_id)
    async with started(tmp_path, config=config) as running:
        yield running


async def ended(host: Portway, run_id: str) -> run_pb2.Run:
    async for _ in host.runs.watch(run_id):
        pass
    return await host.runs.get(run_id)


async def until_it_speaks(host: Portway, run_id: str) -> None:
    async for event in host.runs.watch(run_id):
        if event.HasField("message_delta"):
            return
    raise AssertionError(f"{run_id} ended without a word")


async def played(host: Portway, word: str) -> run_pb2.Run:
    """A run of a word, brought to its end: people cancel `hang` and `stubborn`, and a deadline ends `deadline`."""
    said = MESSAGES.get(word, word)
    if word == "deadline":
        accepted = await host.send("hang", conversation_id=word, agent_id="hurried")
        return await ended(host, accepted.run_id)
    accepted = await host.send(said, conversation_id=word, agent_id="tested")
    if word in ("hang", "stubborn"):
        await until_it_speaks(host, accepted.run_id)
        await host.runs.cancel(accepted.run_id, "the person stopped it")
    return await ended(host, accepted.run_id)


async def test_each_behaviour_has_its_outcome_and_leaves_the_next_run_healthy(
    stack: Stack, request: pytest.FixtureRequest
) -> None:
    wanted = expected(request.node.callspec.params["stack"])
    found: dict[str, tuple[str, str]] = {}
    async with stack.client() as host:
        for word, (state, _code) in wanted.items():
            run = await played(host, word)
            found[word] = (_state(run), run.error.code)
            last = (await host.history(word)).items[-1]
            told = "message" if state == "completed" else "notice"
            assert last.kind == told, f"{word}: people see {last}"
            assert last.content, f"{word}: people see nothing"
            again = await host.send("ok healthy", conversation_id=f"after {word}", agent_id="tested")
            assert _state(await ended(host, again.run_id)) == "completed", f"the run after {word} did not answer"
        assert found == wanted
        page = await host.runs.stub.ListRuns(run_pb2.ListRunsRequest(page_size=200))
    listed = {(_state(run), run.error.code) for run in page.runs}
    assert listed >= set(wanted.values())


def _state(run: run_pb2.Run) -> str:
    return run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
