"""How long workspaces of the machine and sessions of programs are kept, by a clock that the tests set."""

import os
from pathlib import Path

import pytest

from portway.runtime.harness.kept import SESSION_ID, SESSION_TIME, WORKING_DIRECTORY, kept_session
from portway.runtime.harness.machine_place import WORKSPACES, prepare_workspace
from portway.runtime.sdk import RunContext, RunFailure, StateValue
from portway.runtime.sdk.types.context import StateSnapshot

DAY = 86_400.0
NOW = 1_900_000_000.0


def context(**values: object) -> RunContext:
    names = {"session": SESSION_ID, "directory": WORKING_DIRECTORY, "time": SESSION_TIME}
    kept = {names[name]: StateValue(value, 1) for name, value in values.items()}
    return RunContext(state=StateSnapshot(conversation=kept))


def test_a_session_is_gone_back_to_for_its_days_and_no_longer() -> None:
    ctx = context(session="s1", directory="/workspace", time=NOW - 7 * DAY)
    kept = kept_session(ctx, 7.0, NOW)
    assert (kept.session_id, kept.working_directory) == ("s1", "/workspace")
    assert kept_session(ctx, 7.0, NOW + 1).session_id == ""
    assert kept_session(ctx, 8.0, NOW + 1).session_id == "s1"


@pytest.mark.parametrize("time", [None, "yesterday", True, [], NOW + 2 * DAY])
def test_a_time_that_is_none_or_to_come_keeps_nothing(time: object) -> None:
    assert kept_session(context(session="s1", time=time), 7.0, NOW).session_id == ""


@pytest.mark.parametrize("session", [None, 7, {"id": "s1"}, "a\0b", "x" * 600, "-rf", "two\nlines"])
def test_an_id_that_could_be_none_is_not_used(session: object) -> None:
    assert kept_session(context(session=session, time=NOW), 7.0, NOW).session_id == ""


def workspace(root: Path, name: str, used: float) -> Path:
    own = root / WORKSPACES / name
    (own / "work").mkdir(parents=True)
    (own / "work" / "a.txt").write_text("kept")
    os.utime(own, (used, used))
    return own


def test_workspaces_go_when_nobody_used_them_for_so_long(tmp_path: Path) -> None:
    old, young = workspace(tmp_path, "old", NOW - 7 * DAY - 1), workspace(tmp_path, "young", NOW - 7 * DAY + 60)
    again = workspace(tmp_path, "again", NOW - 30 * DAY)
    prepare_workspace(tmp_path / WORKSPACES, again, 7.0, NOW)
    assert not old.exists()
    assert (young / "work" / "a.txt").exists()
    # Used again just now, so it is not old.
    assert (again / "work" / "a.txt").exists() and again.stat().st_mtime == NOW
    prepare_workspace(tmp_path / WORKSPACES, again, 7.0, NOW + 61)
    assert not young.exists() and again.exists()


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    os.utime(precious, (0, 0))
    root = tmp_path / WORKSPACES
    root.mkdir()
    (root / "link").symlink_to(precious)
    (root / "a-file").write_text("of somebody else")
    os.utime(root / "a-file", (0, 0))
    prepare_workspace(root, root / "own", 7.0, NOW)
    assert precious.exists() and (root / "a-file").exists()


def test_workspaces_that_are_a_link_elsewhere_are_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "old").mkdir()
    os.utime(elsewhere / "old", (0, 0))
    (tmp_path / WORKSPACES).symlink_to(elsewhere)
    with pytest.raises(RunFailure) as refused:
        prepare_workspace(tmp_path / WORKSPACES, tmp_path / WORKSPACES / "own", 7.0, NOW)
    assert refused.value.error.code == "harness.no_place" and (elsewhere / "old").exists()
