"""A machine whose bubblewrap does not work: everything but the sandbox does, and the reason is told."""

import json
import os
from pathlib import Path

import pytest

from tests.e2e.stack import started

REASON = "No permissions to create new namespace"


@pytest.fixture
def broken_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\necho 'bwrap: {REASON}' >&2\nexit 1\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("broken_bubblewrap")
async def test_everything_else_works_and_the_answer_and_the_status_say_why(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        status = (await stack.portway("status", "--json")).json()
        parts = status["parts"]
        assert isinstance(parts, list)
        (box,) = [part for part in parts if part["name"] == "box"]
        assert box["state"] == "PART_STATE_UNAVAILABLE" and REASON in box["reason"]

        talk = await stack.portway("send", "hello", "--wait", "--json")
        assert talk.code == 0 and "hello" in str(json.loads(talk.out)["text"])
        asked = await stack.portway("send", "run: echo hi", "--wait", "--json")
        assert asked.code == 0 and REASON in str(json.loads(asked.out)["text"])
        refused = await stack.portway("box", "exec", "--session", "one", "--", "true")
        assert refused.code != 0 and REASON in refused.err
