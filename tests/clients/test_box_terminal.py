"""`portway box shell` on a real terminal, in a real sandbox."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.v1 import process_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, dial, new_session
from tests.clients.pseudo_terminal import OnTerminal, on_terminal
from tests.waiting import until_told

PORTWAY = (sys.executable, "-m", "portway.clients.cli.main")
EXITED = process_pb2.PROCESS_STATE_EXITED
RUNNING = process_pb2.PROCESS_STATE_RUNNING


@pytest.fixture(scope="module")
def box() -> Iterator[BoxProcess]:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as running:
        running.start()
        yield running


def environment(box: BoxProcess, home: Path) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TERM": "xterm",
        "PORTWAY_HOST": "127.0.0.1:1",
        "PORTWAY_BOX": box.address,
        "PORTWAY_TOKEN": box.tokens["admin"].text,
    }


@pytest.fixture
def shell(box: BoxProcess, tmp_path: Path) -> Iterator[OnTerminal]:
    """A shell in a session of the test's own."""
    with on_terminal([*PORTWAY, "box", "shell", session_of(tmp_path)], environment(box, tmp_path)) as running:
        yield running


def session_of(tmp_path: Path) -> str:
    return f"tty-{tmp_path.name[-40:].replace('_', '-')}"


async def processes(channel: PortwayChannel, session_id: str) -> list[process_pb2.Process]:
    answer = await ask(channel, process_pb2.ListProcessesRequest(session_id=session_id))
    return list(answer.processes)


async def until_state(channel: PortwayChannel, session_id: str, state: int) -> None:
    async def there() -> bool:
        return [one.state for one in await processes(channel, session_id)] == [state]

    await until_told(there)


async def test_a_shell_has_a_terminal_of_this_size_and_its_exit_code_comes_out(shell: OnTerminal) -> None:
    await shell.until_shown("$ ")
    shell.type("stty size; test -t 0 && echo is-a-t''ty; echo in-$((40+2))\r")
    await shell.until_shown("24 80")
    await shell.until_shown("is-a-tty")
    await shell.until_shown("in-42")
    shell.resize(33, 111)
    shell.type("while [ \"$(stty size)\" != '33 111' ]; do sleep 0.01; done; echo re''sized\r")
    await shell.until_shown("resized")
    assert shell.attributes() != shell.before
    shell.type("exit 7\r")
    assert await shell.ended() == 7
    assert shell.attributes() == shell.before


async def test_control_keys_go_inside(shell: OnTerminal) -> None:
    await shell.until_shown("$ ")
    shell.type('sh -c \'trap "echo trap"ped"; exit" INT; echo wait""ing; while :; do sleep 0.05; done\'\r')
    await shell.until_shown("waiting")
    shell.type("\x03")
    await shell.until_shown("trapped")
    shell.type("cat > /workspace/typed\r")
    await shell.until_shown("typed\r")
    shell.type("one line\r\x04")
    shell.type("cat /workspace/typed; echo end-of-it\r")
    await shell.until_shown("one line\r\n")
    await shell.until_shown("end-of-it\r")
    assert shell.child.poll() is None
    shell.type("\x04")
    assert await shell.ended() == 0
    assert shell.attributes() == shell.before


async def test_who_leaves_can_come_back_to_what_runs(box: BoxProcess, tmp_path: Path) -> None:
    name = session_of(tmp_path)
    command = [*PORTWAY, "box", "shell", name]
    with on_terminal(command, environment(box, tmp_path)) as first:
        await first.until_shown("$ ")
        first.type("mine=kept\r")
        await first.until_shown("kept\r")
        first.type("\r~.")
        await first.until_shown("left; it goes on")
        assert await first.ended() == 0
        assert first.attributes() == first.before
    async with dial(box) as channel:
        (process,) = await processes(channel, name)
        assert process.state == RUNNING
        with on_terminal([*command, "--process", process.process_id], environment(box, tmp_path)) as second:
            second.type("echo still-$mine\r")
            await second.until_shown("still-kept")
            second.type("exit 3\r")
            assert await second.ended() == 3
        await Inside(channel, name).delete()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_shell_whose_person_is_gone_is_ended(
    box: BoxProcess, shell: OnTerminal, tmp_path: Path, number: signal.Signals
) -> None:
    await shell.until_shown("$ ")
    shell.child.send_signal(number)
    assert await shell.ended() == 128 + number
    assert shell.attributes() == shell.before
    async with dial(box) as channel:
        await until_state(channel, session_of(tmp_path), EXITED)


async def test_a_window_that_is_closed_ends_its_shell(box: BoxProcess, shell: OnTerminal, tmp_path: Path) -> None:
    await shell.until_shown("$ ")
    shell.hang_up()
    assert shell.child.wait(30) != 0
    async with dial(box) as channel:
        await until_state(channel, session_of(tmp_path), EXITED)


async def test_a_box_that_is_killed_is_no_success_and_the_terminal_is_whole(tmp_path: Path) -> None:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            await new_session(channel, session_id="stays", persistent=True)
        with on_terminal([*PORTWAY, "box", "shell", "stays"], environment(box, tmp_path)) as shell:
            await shell.until_shown("$ ")
            box.kill()
            await shell.until_shown("the connection is lost")
            box.listen = box.address
            box.start()
            assert await shell.ended() == 255
            assert shell.attributes() == shell.before


def test_without_a_terminal_it_says_what_to_use(box: BoxProcess, tmp_path: Path) -> None:
    done = subprocess.run(
        [*PORTWAY, "box", "shell", "s"], env=environment(box, tmp_path), stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 1
    assert b"needs a terminal" in done.stderr and b"box exec" in done.stderr
