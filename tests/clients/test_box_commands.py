"""`portway box exec|ps|logs|cp|sessions|stats` as processes, against a real box."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.v1 import process_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import dial, new_session
from tests.clients.pseudo_terminal import output_of
from tests.clients.test_box_terminal import PORTWAY, environment
from tests.waiting import until_told

Ran = tuple[int, bytes, bytes]


@pytest.fixture(scope="module")
def box() -> Iterator[BoxProcess]:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as running:
        running.start()
        yield running


class Commands:
    def __init__(self, box: BoxProcess, home: Path) -> None:
        self._environment = environment(box, home)

    async def run(self, *arguments: str, stdin: bytes | None = b"") -> Ran:
        return await output_of([*PORTWAY, "box", *arguments], self._environment, stdin)

    async def json(self, *arguments: str) -> Any:
        code, out, errors = await self.run(*arguments, "--json")
        assert code == 0, errors
        return json.loads(out)


@pytest.fixture
def commands(box: BoxProcess, tmp_path: Path) -> Commands:
    return Commands(box, tmp_path)


async def test_exec_gives_output_errors_input_and_exit_code_on(commands: Commands) -> None:
    ran = await commands.run(
        *("exec", "--session", "x", "--env", "A=b c", "--", "sh", "-c", 'cat; echo "$A" >&2; exit 9'), stdin=b"\0\xff\n"
    )
    assert ran == (9, b"\0\xff\n", b"b c\n")
    code, out, errors = await commands.run("exec", "--session", "x", "--timeout", "0.5", "--", "sleep", "60")
    assert (code, out) == (124, b"") and b"took too long" in errors
    assert (await commands.run("exec", "--session", "x", "--", "sh", "-c", "kill -9 $$"))[0] == 137


async def test_exec_ends_though_its_input_stays_open(commands: Commands) -> None:
    assert await commands.run("exec", "--session", "x", "--", "echo", "done", stdin=None) == (0, b"done\n", b"")


async def test_what_goes_wrong_is_said_with_its_exit_code(commands: Commands, box: BoxProcess) -> None:
    for code, arguments, said in (
        (3, ("ps", "no-such"), b"no session 'no-such'"),
        (3, ("logs", "no-such", "p"), b"no "),
        (3, ("cp", "no-such:/workspace/a", "/tmp/nowhere-a"), b"no session 'no-such'"),
        (2, ("cp", "a", "b"), b"SESSION:/path"),
        (2, ("sessions", "create", "a/b"), b"session_id"),
        (2, ("sessions", "create", "fine", "--profile", "nope"), b"no profile 'nope'"),
    ):
        ran = await commands.run(*arguments)
        assert ran[0] == code and said in ran[2], ran
    without = dict(environment(box, Path("/nowhere"))) | {"PORTWAY_TOKEN": box.tokens["admin"].text[:-4] + "0000"}
    assert (await output_of([*PORTWAY, "box", "sessions"], without))[0] == 4


async def test_sessions_are_made_listed_shown_and_deleted(commands: Commands) -> None:
    made = await commands.json("sessions", "create", "listed", "--label", "who=test", "--profile", "offline_readonly")
    assert not made["existed"] and made["session"]["spec"]["profile"] == "offline_readonly"
    assert [one["session_id"] for one in await commands.json("sessions", "list", "--label", "who=test")] == ["listed"]
    assert await commands.json("sessions", "list", "--label", "who=else") == []
    shown = await commands.json("sessions", "show", "listed")
    assert {"session", "workspace"} <= {item["kind"] for item in shown["held"]}
    assert (await commands.run("sessions"))[1].count(b"listed") == 1
    assert (await commands.run("sessions", "delete", "listed"))[0] == 0
    assert await commands.json("sessions", "list", "--label", "who=test") == []


async def test_files_and_directories_are_copied_both_ways(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\0a" * 700_000)
    (folder / "sub" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (folder / "sub" / "run.sh").chmod(0o755)
    assert (await commands.run("cp", str(folder), "c:/workspace/tree"))[0] == 0
    assert (await commands.run("exec", "--session", "c", "--", "/workspace/tree/sub/run.sh"))[1] == b"ran\n"
    assert (await commands.run("cp", str(folder / "a.txt"), "c:/workspace"))[0] == 0
    assert (await commands.run("cp", "-", "c:/workspace/in.txt", stdin=b"from here"))[0] == 0
    back = tmp_path / "back"
    back.mkdir()
    assert (await commands.run("cp", "c:/workspace/tree", str(back)))[0] == 0
    assert (back / "tree" / "a.txt").read_bytes() == b"\0a" * 700_000
    assert (back / "tree" / "sub" / "run.sh").stat().st_mode & 0o111
    assert (await commands.run("cp", "c:/workspace/a.txt", str(back / "b.txt")))[0] == 0
    assert (back / "b.txt").stat().st_size == 1_400_000
    assert (await commands.run("cp", "c:/workspace/in.txt", "-"))[1] == b"from here"
    code, _out, errors = await commands.run("cp", "c:/workspace/none", str(back))
    assert code == 3 and b"/workspace/none" in errors


async def test_processes_are_shown_and_what_they_said_and_say(commands: Commands, box: BoxProcess) -> None:
    async with dial(box) as channel:
        session = await new_session(channel, session_id="logged")
        said = "echo first; echo bad >&2; until [ -e go ]; do sleep 0.01; done; echo last; exit 6"
        request = process_pb2.StartProcessRequest(
            session_id="logged", process_id="talker", command=process_pb2.Command(shell=said)
        )
        await ask(channel, request)

        async def spoke() -> bool:
            found = await ask(channel, process_pb2.GetProcessRequest(session_id="logged", process_id="talker"))
            return bool(found.process.stdout_bytes >= 6 and found.process.stderr_bytes >= 4)

        await until_told(spoke)
        assert await commands.run("logs", "logged", "talker") == (0, b"first\n", b"bad\n")
        shown = await commands.json("ps", "logged")
        assert [one["process_id"] for one in shown["processes"]] == ["talker"]
        assert b"talker" in (await commands.run("ps", "--session", "logged"))[1]
        following = asyncio.ensure_future(commands.run("logs", "logged", "talker", "--follow"))

        async def attached() -> bool:
            found = await ask(channel, process_pb2.GetProcessRequest(session_id="logged", process_id="talker"))
            return bool(found.process.attached_count)

        await until_told(attached)
        await session.write("go", b"")
        assert await following == (6, b"first\nlast\n", b"bad\n")
        code, out, _errors = await commands.run("logs", "logged", "talker", "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and {line["kind"] for line in lines} == {"stdout", "stderr"}


async def test_stats_tell_what_a_session_uses(commands: Commands) -> None:
    await commands.run("exec", "--session", "used", "--", "true")
    figures = await commands.json("stats", "--once")
    (used,) = [one for one in figures["sessions"] if one["session_id"] == "used"]
    assert used["usage"]["command_count"] == "1"
    assert b"used" in (await commands.run("stats", "--once"))[1]
