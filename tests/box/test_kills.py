"""What is left when a part of the box, or who uses it, is killed: nothing, at once; what was lost is no success."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import NotFound, PortwayError, Reason, Unavailable, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, BoxProcess, box_process, interpreter, why_not
from tests.box.inside import Inside, Result, begin, command, dial, new_session, until_said
from tests.box.machine import kill_all, leftovers, processes_with, seen, until_gone, until_nothing_is_left


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    """A box of the test's own, to be killed."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.start()
        yield box


@pytest.fixture(params=[ROOT, UNPRIVILEGED, DOCKER])
def any_mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    """The same, on every backend."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.start()
        yield box


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 5, 8, 12, 20, 30, 50])
async def test_a_box_killed_just_after_a_spawn_leaves_nothing(mortal: BoxProcess, milliseconds: int) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        session = await new_session(channel)
        commands = [asyncio.create_task(session.sh(f"sleep 600; : {mark}")) for _ in range(12)]
        # The moment of the kill is what is tried here.
        timer = threading.Timer(milliseconds / 1000, mortal.kill)
        timer.start()
        results = await asyncio.gather(*commands, return_exceptions=True)
        timer.join()
    assert all(isinstance(result, PortwayError) for result in results), results
    await until_nothing_is_left(mortal)
    assert processes_with(mark) == []
    mortal.start()
    async with dial(mortal) as channel:
        status = await ask(channel, box_pb2.GetBoxStatusRequest())
        assert status.available
        assert (await (await new_session(channel)).sh("echo again")).stdout == "again\n"


async def test_a_box_killed_together_with_its_launcher_leaves_no_process_and_the_next_start_sweeps_the_rest(
    mortal: BoxProcess,
) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        session = await new_session(channel)
        call = await begin(session, f"setsid sleep 600 & sleep 600; : {mark}")
        await seen(mark)
        kill_all([mortal.pid, *mortal.launcher_pids()])
        mortal.kill()
        call.cancel()
    await until_gone(mark)
    mortal.start()
    async with dial(mortal) as channel:
        status = await ask(channel, box_pb2.GetBoxStatusRequest())
        assert status.available
        assert status.swept_count > 0
        assert status.session_count == 0
    mortal.stop()
    assert leftovers(mortal) == []


async def test_a_lost_launcher_loses_commands_and_not_the_workspace(mortal: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        session = await new_session(channel, persistent=True)
        await session.write("kept.txt", b"kept")
        running = asyncio.create_task(session.sh(f"sleep 600; : {mark}"))
        await seen(mark)
        kill_all(mortal.launcher_pids())
        with pytest.raises(Unavailable):
            await running
        await until_gone(mark)
        assert await session.read("kept.txt") == b"kept"
        assert (await session.sh("cat kept.txt")).stdout == "kept"
        errors = await ask(channel, box_pb2.ListErrorsRequest())
        assert "BACKEND_FAILED" in {error.code for error in errors.errors}


async def test_a_caller_that_goes_away_takes_its_command_with_it(inside: Inside, box: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(box) as other:
        call = await begin(Inside(other, inside.session_id), f"setsid sleep 600 & sleep 600; : {mark}")
        await seen(mark)
    await until_gone(mark)
    assert call.done()


async def test_a_command_takes_everything_with_it_that_it_started(inside: Inside) -> None:
    mark = new_id("mark")
    script = f"(setsid sh -c 'trap \"\" TERM INT HUP; sleep 600; : {mark}' >/dev/null 2>&1 &) ; echo left"
    assert (await inside.attempt(script)).stdout == "left\n"
    assert processes_with(mark) == []


async def test_a_timeout_ends_what_ignores_signals(inside: Inside) -> None:
    mark = new_id("mark")
    result = await inside.attempt(f"trap '' TERM INT HUP QUIT; while :; do sleep 1; done; : {mark}", timeout=0.5)
    assert result.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
    assert not result.exit.HasField("exit_code")
    assert processes_with(mark) == []


async def test_on_every_backend_callers_that_go_away_take_their_commands_with_them(any_mortal: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(any_mortal) as channel:
        session = await new_session(channel)
        async with dial(any_mortal) as other:
            leaving = Inside(other, session.session_id)
            for _ in range(4):
                await begin(leaving, f"trap '' TERM INT HUP; setsid sleep 600 & sleep 600; : {mark}")
            await seen(mark)
        await until_gone(mark)
        assert (await session.sh("echo fine")).stdout == "fine\n"


async def test_deleting_a_session_ends_all_that_runs_in_it(channel: PortwayChannel, box: BoxProcess) -> None:
    session = await new_session(channel)
    mark = new_id("mark")
    running = asyncio.create_task(session.sh(f"sleep 600; : {mark}"))
    await seen(mark)
    answer = await session.delete()
    assert answer.killed_process_count >= 1
    assert processes_with(mark) == []
    ended = (await asyncio.gather(running, return_exceptions=True))[0]
    if isinstance(ended, Result):
        assert ended.exit.status == process_pb2.EXIT_STATUS_KILLED
    with pytest.raises(NotFound):
        await session.sh("true")


async def test_sigterm_lets_commands_finish_and_takes_no_new_ones(mortal: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        session = await new_session(channel)
        running = asyncio.create_task(session.sh(f"sleep 1; echo finished; : {mark}"))
        await seen(mark)
        assert mortal.process is not None
        mortal.process.terminate()
        assert (await running).stdout == "finished\n"
        with pytest.raises(PortwayError):
            await session.sh("true")
    assert mortal.wait_ended() == 0
    assert leftovers(mortal) == []


async def test_a_persistent_session_comes_back_with_its_workspace_after_a_kill(any_mortal: BoxProcess) -> None:
    async with dial(any_mortal) as channel:
        kept = await new_session(channel, session_id="kept", persistent=True, labels={"who": "me"})
        await kept.write("dir/file.bin", b"x" * 100_000, make_parents=True)
        await kept.sh("echo inside > from-inside.txt")
        await new_session(channel, session_id="passing")
    any_mortal.kill()
    any_mortal.start()
    async with dial(any_mortal) as channel:
        sessions = await ask(channel, session_pb2.ListSessionsRequest())
        assert [session.session_id for session in sessions.sessions] == ["kept"]
        assert dict(sessions.sessions[0].spec.labels) == {"who": "me"}
        again = await new_session(channel, session_id="kept", persistent=True)
        assert await again.read("dir/file.bin") == b"x" * 100_000
        assert (await again.sh("cat from-inside.txt; echo more >> from-inside.txt")).stdout == "inside\n"
        await again.delete()
    assert not [path for path in (any_mortal.data / "sessions").iterdir() if path.is_dir()]


async def test_what_a_killed_upload_left_is_gone_when_its_session_is_opened_again(mortal: BoxProcess) -> None:
    cut_off, like_it = ".upload-0123456789abcdef.part", ".upload-mine.part"
    async with dial(mortal) as channel:
        kept = await new_session(channel, session_id="kept", persistent=True)
        made = f"mkdir -p $d/{cut_off}/a/b $d/{like_it}; echo x > $d/{cut_off}/a/b/c; ln -s / $d/{cut_off}/root"
        await kept.sh(f"for d in . deep/er; do {made}; done; ln -s {cut_off} .upload-ffffffffffffffff.part")
        # While the box lives such a directory may be an upload under way.
        assert (await kept.sh(f"find . -name {cut_off} | wc -l")).stdout == "2\n"
    mortal.kill()
    mortal.start()
    async with dial(mortal) as channel:
        again = await new_session(channel, session_id="kept", persistent=True)
        assert (await again.sh("find . -name '.upload*' | sort")).stdout.split() == [
            "./.upload-ffffffffffffffff.part",
            f"./{like_it}",
            f"./deep/er/{like_it}",
        ]
        await again.delete()


async def test_a_command_whose_box_was_killed_is_unknown_and_never_run_again(any_mortal: BoxProcess) -> None:
    script = "echo once >> runs.txt; echo begun; sleep 600"
    async with dial(any_mortal) as channel:
        session = await new_session(channel, session_id="s", persistent=True)
        call = await begin(session, script, request_id="effect-1")
        await until_said(call, b"begun\n")
        any_mortal.kill()
        with pytest.raises(PortwayError):
            await until_said(call, b"never")
    any_mortal.start()
    async with dial(any_mortal) as channel:
        session = await new_session(channel, session_id="s", persistent=True)
        with pytest.raises(WrongState) as caught:
            await session.run(command(shell=script), request_id="effect-1")
        assert caught.value.reason == Reason.EFFECT_UNKNOWN
        assert (await session.sh("cat runs.txt")).stdout == "once\n"


def test_a_box_whose_supervisor_died_drains_and_ends() -> None:
    if reason := why_not(ROOT):
        pytest.skip(reason)
    with box_process(ROOT) as box:
        # A parent that starts the box as `up` does, and is killed.
        program = (
            "import os, subprocess, sys; "
            "box = subprocess.Popen(sys.argv[1:], env={**os.environ, 'PORTWAY_SUPERVISOR_PID': str(os.getpid())}); "
            "print(box.pid, flush=True); box.wait()"
        )
        (box.folder / "config.yaml").write_text("box: {}\n")
        parent = subprocess.Popen(
            [sys.executable, "-c", program, sys.executable, "-m", "portway.box", *box.flags()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        box.process = parent
        box.wait_ready()
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        asyncio.run(until_gone(str(box.folder)))
        assert pid not in processes_with("portway.box")
        assert leftovers(box) == []


def test_a_second_box_on_the_same_data_is_refused(box: BoxProcess) -> None:
    done = subprocess.run(
        [*interpreter(box.mode), "-m", "portway.box", *box.flags()],
        env=box.whole_environment(),
        capture_output=True,
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 1
    assert f"another box (process {box.pid})".encode() in done.stderr


async def test_a_broken_stream_is_not_a_success(any_mortal: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(any_mortal) as channel:
        session = await new_session(channel)
        call = await begin(session, f"echo out; sleep 600; : {mark}")
        await seen(mark)
        any_mortal.kill()
        frames = []
        with pytest.raises(PortwayError), errors_by_meaning():
            async for frame in call:
                frames.append(frame.WhichOneof("kind"))
    assert "exit" not in frames


async def test_processes_of_a_killed_box_are_lost_or_begin_again_by_their_policy(any_mortal: BoxProcess) -> None:
    mark = new_id("mark")
    policies = {"once": process_pb2.RESTART_POLICY_NEVER, "always": process_pb2.RESTART_POLICY_ALWAYS}
    async with dial(any_mortal) as channel:
        await new_session(channel, session_id="s", persistent=True)
        for name, policy in policies.items():
            wanted = command(shell=f"echo {name} >> /workspace/{name}; sleep 600; : {mark}-{name}", env={"A": "b"})
            request = process_pb2.StartProcessRequest(
                session_id="s", process_id=name, command=wanted, restart_policy=policy
            )
            await ask(channel, request)
            await seen(f"{mark}-{name}")
    any_mortal.kill()
    await until_gone(mark)
    any_mortal.start()
    async with dial(any_mortal) as channel:
        await seen(f"{mark}-always")
        answer = await ask(channel, process_pb2.ListProcessesRequest(session_id="s"))
        always, once = answer.processes
        assert (once.process_id, once.state) == ("once", process_pb2.PROCESS_STATE_LOST)
        assert not once.HasField("exit")
        assert (always.state, always.restart_count) == (process_pb2.PROCESS_STATE_RUNNING, 1)
        assert dict(once.command.env) == {"A": "b"}
        assert not processes_with(f"{mark}-once")
        again = await ask(channel, process_pb2.StopProcessRequest(session_id="s", process_id="always"))
        assert again.process.state == process_pb2.PROCESS_STATE_EXITED
    any_mortal.stop()
    any_mortal.start()
    async with dial(any_mortal) as channel:
        left = await ask(channel, process_pb2.ListProcessesRequest(session_id="s"))
        assert [process.process_id for process in left.processes] == []


async def test_a_launcher_that_hangs_is_ended_by_the_next_start(mortal: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        call = await begin(await new_session(channel), f"sleep 600; : {mark}")
        await seen(mark)
        for pid in mortal.launcher_pids():
            os.kill(pid, signal.SIGSTOP)
        mortal.kill()
        call.cancel()
    assert processes_with(mark)
    mortal.start()
    assert processes_with(mark) == []
    mortal.stop()
    assert leftovers(mortal) == []
