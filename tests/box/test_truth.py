"""What a session does must not decide what is told about it, or about another: a result is what really happened."""

import asyncio
import os
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.v1 import process_pb2, session_pb2
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, new_session, until_said
from tests.box.programs import HOLD_ALL_PIPES

COMPLETED = process_pb2.EXIT_STATUS_COMPLETED


async def test_a_command_that_does_not_fit_into_a_pipe_is_run_all_the_same(
    channel: PortwayChannel, inside: Inside, box: BoxProcess
) -> None:
    hog = await new_session(channel)
    call = await begin(hog, f"exec /usr/bin/python3 -c '{HOLD_ALL_PIPES}'")
    await until_said(call, b"full\n")
    results = [await inside.sh("echo ran", env={"LONG": "a" * 20_000}) for _ in range(8)]
    quoted = [await inside.sh('printf %s "$LONG" | wc -c', env={"LONG": "it's " * 5_000}) for _ in range(4)]
    call.cancel()
    await hog.delete()
    assert [(one.stdout, one.code) for one in results] == [("ran\n", 0)] * 8
    assert [(one.stdout, one.code) for one in quoted] == [("25000\n", 0)] * 4


async def test_a_command_without_input_takes_nothing_of_the_machine_for_its_user(inside: Inside) -> None:
    # A variable that shells keep for themselves: the command gets a sandbox of its own, with /dev/null as its input.
    result = await inside.attempt(
        "readlink /proc/self/fd/0; [ -O /dev/null ] && echo OWNED; chmod 666 /dev/null 2>&1 && echo CHANGED; true",
        env={"PS1": "x"},
    )
    assert result.stdout.startswith("/dev/null\n")
    assert "Operation not permitted" in result.stdout, result
    assert "OWNED" not in result.stdout
    assert "CHANGED" not in result.stdout


async def test_the_first_process_can_neither_be_written_to_nor_told_what_to_say(
    inside: Inside, box: BoxProcess
) -> None:
    program = (
        "import os\n"
        "print(os.listdir('/proc/1/fd'))\n"
        "for name in os.listdir('/proc/1/fd'):\n"
        "    try: os.write(os.open(f'/proc/1/fd/{name}', os.O_WRONLY), b'{\"exit-code\": 0}\\n')\n"
        "    except OSError: pass\n"
        "for path in ('/proc/1/mem', '/proc/self/mem', f'/proc/{os.getppid()}/mem'):\n"
        "    try: open(path, 'r+b'); print('OPEN', path)\n"
        "    except OSError as error: print('refused', error.errno)\n"
        "os.sys.stdout.flush(); os._exit(7)"
    )
    result = await inside.python(program)
    assert "OPEN" not in result.stdout
    if box.has_image:  # the first process is another user's
        assert "PermissionError" in result.stderr
    else:
        assert result.stdout.count("refused 30") == 3
    assert (result.exit.status, result.code) == (COMPLETED, 1 if box.has_image else 7)


async def test_a_command_that_is_killed_is_told_as_killed_whatever_it_said_before(inside: Inside) -> None:
    fake = '{"exit-code": 0}'
    said = f"echo '{fake}'; echo '{fake}' >&2; echo 'bwrap: execvp x: No such file or directory' >&2; "
    by_time = await inside.attempt(said + "trap '' TERM; sleep 60", timeout=0.5)
    by_signal = await inside.attempt(said + "kill -9 $$")
    everything = await inside.attempt(said + "kill -9 -1")
    stopped = await inside.attempt(said + "kill -STOP -1; kill -STOP $$", timeout=0.5)
    assert by_time.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
    assert (by_signal.exit.status, by_signal.exit.signal) == (process_pb2.EXIT_STATUS_KILLED, 9)
    # Without the first process, which it cannot reach.
    assert everything.exit.status in (process_pb2.EXIT_STATUS_KILLED, COMPLETED)
    assert stopped.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
    assert not any(one.exit.HasField("exit_code") for one in (by_time, by_signal, stopped))


async def test_commands_before_do_not_decide_what_later_ones_run(channel: PortwayChannel, box: BoxProcess) -> None:
    """Whatever a command leaves in the places that it may write to, the next one is the one that was asked for."""
    session = await new_session(channel, read_only_root=False)
    hostile = (
        "printf '#!/bin/sh\\necho HIJACKED; exit 0\\n' > /workspace/sh; chmod 755 /workspace/sh; "
        "for each in bin sbin lib lib64 usr etc dev proc; do mv /$each /old-$each; rm -rf /$each; "
        "ln -s /workspace /$each; ln -sfn /workspace /$each; done; mkdir -p /bin; cp /workspace/sh /bin/sh; "
        "for each in .profile .bashrc .shrc .env sh echo cd exec unset export; do cp /workspace/sh /workspace/$each; "
        "cp /workspace/sh /tmp/$each; done; echo /workspace/evil.so > /etc/ld.so.preload; true"
    )
    await session.attempt(f"({hostile}) 2>/dev/null")
    results = [await session.sh("echo true; exit 3") for _ in range(4)]
    results += [await session.sh("echo true; exit 3", env={"PS1": "x"}), await session.sh("exit 3", terminal=(9, 9))]
    await session.delete()
    assert [one.code for one in results] == [3] * 6, results
    assert [one.stdout for one in results[:5]] == ["true\n"] * 5


async def test_a_session_out_of_processes_is_told_so_and_others_run_on(channel: PortwayChannel, inside: Inside) -> None:
    small = await new_session(channel, limits=session_pb2.SessionLimits(pids=20))
    bomb = await begin(
        small,
        "exec /usr/bin/python3 -c 'import os,time\nwhile True:\n try:\n  if os.fork()==0: time.sleep(60)\n"
        ' except OSError: print("full", flush=True); break\n'
        "time.sleep(60)'",
    )
    await until_said(bomb, b"full\n")
    others = await asyncio.gather(*(inside.sh("echo fine") for _ in range(10)))
    own = await asyncio.gather(*(small.sh("echo fine; exit 4") for _ in range(10)), return_exceptions=True)
    bomb.cancel()
    await small.delete()
    assert [one.stdout for one in others] == ["fine\n"] * 10
    for one in own:
        # Either it ran as asked, or the refusal says that nothing ran: never a success that was none.
        assert isinstance(one, BaseException) or (one.stdout, one.code) == ("fine\n", 4), one


@pytest.mark.parametrize("place", ["/workspace", "/tmp"])
async def test_what_a_session_locked_away_and_nested_is_gone_with_it(
    channel: PortwayChannel, box: BoxProcess, place: str
) -> None:
    session = await new_session(channel, persistent=True)
    made = await session.python(
        "import os\n"
        f"os.chdir('{place}')\n"
        "os.mkdir('locked'); open('locked/file', 'w').close(); os.mkdir('locked/inner')\n"
        "os.chmod('locked/inner', 0); os.chmod('locked', 0)\n"
        "os.symlink('/usr', 'link')\n"
        "for _ in range(3000): os.mkdir('deep'); os.chdir('deep')\n"
        "os.chmod('.', 0); print('made')"
    )
    assert made.stdout == "made\n", made
    await session.delete()
    assert not [path for path in (box.data / "sessions").iterdir() if _is_of(path, session.session_id)]
    assert os.listdir("/usr/bin")
    again = await new_session(channel, session_id=session.session_id, persistent=True)
    assert (await again.sh(f"ls -A {place}")).stdout == ""
    await again.delete()


def _is_of(home: Path, session_id: str) -> bool:
    stored = home / "session.json"
    return stored.exists() and session_id in stored.read_text()


async def test_one_session_asks_for_too_much_in_one_word_and_the_others_stay(
    channel: PortwayChannel, inside: Inside
) -> None:
    call = await begin(inside, "echo up; sleep 60")
    await until_said(call, b"up\n")
    places = ["/" + "/".join([f"place{number}", *["中é" * 20] * 38]) for number in range(32)]
    mounts = [session_pb2.Mount(target=place, mode=session_pb2.MOUNT_MODE_NONE) for place in places]
    large = await new_session(channel, extra_mounts=mounts)
    assert (await large.sh(f"ls -d '{places[-1]}' | wc -l")).stdout == "1\n"
    await large.delete()
    assert not call.done()
    call.cancel()
