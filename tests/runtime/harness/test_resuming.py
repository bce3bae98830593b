"""A program's session is gone back to, or begun anew and said so, once: on the machine, with the scripted program."""

import json
import os
import time
import uuid
from pathlib import Path

import pytest

from portway.runtime.harness.allowances import HOST_HARNESS
from portway.runtime.harness.kept import SESSION_ID, SESSION_TIME, WORKING_DIRECTORY
from portway.runtime.official.claude_code.runner import ClaudeCode
from portway.runtime.official.codex.runner import Codex
from portway.runtime.sdk import AgentRunner, RunContext, RunInput, StateValue
from portway.runtime.sdk.testing.drive import Outcome, run_runner
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.context import ConversationContext, RuntimeContext, StateSnapshot

FAKE = Path(__file__).parents[2] / "contracts" / "harness" / "programs" / "fake_cli.py"
RUNNERS: dict[str, type[AgentRunner]] = {"claude": ClaudeCode, "codex": Codex}
SESSION = "0199a213-81c0-7800-8aa1-bbab2a035a53"


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the operator allows, where the plugin reads it."""
    folder = tmp_path / "allowed"
    for one in (folder, tmp_path / "tmp"):
        one.mkdir()
    told = {"enabled": True, "working_directories": [str(folder)], "workspace_days": 7}
    monkeypatch.setenv(HOST_HARNESS, json.dumps(told))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return folder


async def run(vendor: str, text: str, directory: str = "", configured: str = "", session: str = SESSION) -> Outcome:
    kept = {SESSION_ID: session, WORKING_DIRECTORY: directory, SESSION_TIME: int(time.time())}
    ctx = RunContext(
        run_id=f"run_{uuid.uuid4().hex}",
        conversation=ConversationContext("cnv_1"),
        input=RunInput(text),
        runtime=RuntimeContext(model_gateway_url="http://127.0.0.1:9"),
        state=StateSnapshot(conversation={name: StateValue(value, 1) for name, value in kept.items()}),
        config={
            "where": "machine",
            "command": json.dumps(["/usr/bin/python3", str(FAKE), f"resuming-{uuid.uuid4().hex}", vendor]),
            "working_directory": configured,
        },
    )
    return await run_runner(RUNNERS[vendor], things=Things(), permissions=["state"], context=ctx)


def anew(outcome: Outcome) -> list[str]:
    lines = [one.progress.text for one in outcome.results if one.HasField("progress")]
    return [line for line in lines if line.startswith("a new session is begun")]


@pytest.mark.parametrize("vendor", RUNNERS)
async def test_a_kept_session_is_resumed_where_it_was(allowed: Path, vendor: str) -> None:
    place = allowed / "project"
    place.mkdir()
    outcome = await run(vendor, "arguments x", str(place))
    assert SESSION in json.loads(outcome.messages[0]) and not anew(outcome)
    assert json.loads((await run(vendor, "environment x", str(place))).messages[0])["cwd"] == str(place)


@pytest.mark.parametrize("vendor", RUNNERS)
async def test_a_directory_that_is_gone_begins_a_session_anew(allowed: Path, vendor: str) -> None:
    outside = os.path.dirname(allowed)
    for directory in (f"{allowed}/gone", outside, "/workspace"):
        outcome = await run(vendor, "arguments x", directory)
        assert SESSION not in json.loads(outcome.messages[0])
        (said,) = anew(outcome)
        assert directory in said


@pytest.mark.parametrize("vendor", RUNNERS)
async def test_a_session_that_the_program_forgot_is_begun_anew(allowed: Path, vendor: str) -> None:
    outcome = await run(vendor, "refuse_resume began anew")
    assert outcome.messages == ["began anew"]
    (said,) = anew(outcome)
    assert SESSION in said


@pytest.mark.parametrize("session", ["--dangerously-skip", "a b", "a\nb", "x" * 600])
async def test_an_id_that_would_be_something_else_is_never_given(allowed: Path, session: str) -> None:
    outcome = await run("claude", "arguments x", session=session)
    assert session not in json.loads(outcome.messages[0])


async def test_a_configured_directory_that_is_not_there_fails_with_what_to_do(allowed: Path) -> None:
    outcome = await run("claude", "ok x", configured=f"{allowed}/never")
    assert outcome.error_code == "harness.no_place"
    assert "working_directories" in outcome.terminal.run_failed.error.message
