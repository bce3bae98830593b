"""Commands at their edges: what they may be, how they end, what they leave running, where their output goes."""

import asyncio
import hashlib

import grpc
import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, NotPermitted, PortwayError, WrongState
from portway.rpc.ids import new_id
from portway.v1 import process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, command, enforces, new_session, next_frame, seconds, until_said
from tests.box.machine import processes_with, until_gone

COMPLETED, KILLED = process_pb2.EXIT_STATUS_COMPLETED, process_pb2.EXIT_STATUS_KILLED
TIMED_OUT, OUT_OF_MEMORY = process_pb2.EXIT_STATUS_TIMED_OUT, process_pb2.EXIT_STATUS_OUT_OF_MEMORY
MEBI = 1024 * 1024
LINGERS = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(256):
            try:
                os.close(descriptor)
            except OSError:
                pass
        while True:
            time.sleep(0.05)
    os._exit(0)
"""


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 10, 999, 1000])
@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 5000])
async def test_head_and_tail_are_exact_to_the_byte(inside: Inside, limit: int, extra: int) -> None:
    size = max(0, limit + extra)
    whole = "".join(chr(33 + place % 90) for place in range(size)).encode()
    wanted = command(shell="cat")
    result = await inside.run(wanted, stdin=whole or b"", output_limit=limit) if whole else None
    if result is None:
        return
    head = round(limit * 0.6)
    kept = whole if size <= limit else whole[:head] + whole[size - (limit - head) :]
    assert result.response.stdout == kept
    assert result.response.stdout_truncated_bytes == size - len(kept)


async def _kept(inside: Inside, shell: str, path: str) -> process_pb2.ExecOnceResponse:
    request = process_pb2.ExecOnceRequest(
        session_id=inside.session_id, command=command(shell=shell), output_file=path, output_limit=1000
    )
    answer: process_pb2.ExecOnceResponse = await ask(inside.channel, request)
    return answer


async def test_a_full_disk_is_told_and_the_command_does_not_suffer(channel: PortwayChannel) -> None:
    small = await new_session(channel, limits=session_pb2.SessionLimits(disk_bytes=16 * MEBI))
    answer = await _kept(small, "head -c 60000000 /dev/zero | tr '\\0' x; exit 4", "kept.txt")
    assert (answer.exit.status, answer.exit.exit_code) == (COMPLETED, 4)
    assert answer.stdout_truncated_bytes == 60_000_000 - 1000
    if answer.exit.output_file_error:
        assert "full" in answer.exit.output_file_error or "large" in answer.exit.output_file_error
        assert (await small.sh("ls -A")).stdout in ("", "lost+found\n")
    else:
        # This box bounds no plain folder, and says so.
        assert not await enforces(channel, "disk_bytes")
    assert not (await _kept(small, "echo fits", "kept.txt")).exit.output_file_error
    assert await small.read("kept.txt") == b"fits\n"
    await small.delete()


@pytest.mark.parametrize("planted", ["mkfifo kept", "ln -s /etc/passwd kept", "ln -s other kept", "mkdir kept"])
async def test_an_output_file_is_no_pipe_link_or_directory(inside: Inside, planted: str) -> None:
    await inside.attempt(planted)
    with pytest.raises(WrongState):
        await _kept(inside, "echo ran >> count", "kept")
    assert (await inside.attempt("ls count")).code != 0


@pytest.mark.parametrize("path", ["../../etc/x", "/etc/x", "/proc/self/x", "no/such/folder", ".", "a\0b"])
async def test_an_output_file_lies_in_a_place_for_files(inside: Inside, path: str) -> None:
    with pytest.raises((NotPermitted, InvalidInput, PortwayError)):
        await _kept(inside, "echo ran >> count", path)
    assert (await inside.attempt("ls count")).code != 0


async def test_a_link_that_is_planted_while_the_command_runs_is_replaced_and_not_followed(inside: Inside) -> None:
    await inside.attempt("echo precious > other")
    answer = await _kept(inside, "rm -f kept; ln -s other kept; mkfifo pipe; echo said", "kept")
    assert not answer.exit.output_file_error
    assert await inside.read("other") == b"precious\n"
    assert await inside.read("kept") == b"said\n"


@pytest.mark.parametrize(
    "script",
    [
        "(setsid sleep 600 {mark} &) ; echo done",
        "nohup sleep 600 {mark} > /dev/null 2>&1 & echo done",
        "(trap '' TERM HUP INT; while :; do sleep 0.05; done; : {mark}) & echo done",
        "for each in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 600 & sleep 600; : {mark}' &) ; done; echo done",
    ],
)
async def test_what_a_command_left_running_ends_with_it(inside: Inside, script: str) -> None:
    mark = new_id("mark")
    result = await inside.attempt(script.replace("sleep 600 {mark}", f"sh -c 'sleep 600; : {mark}'").format(mark=mark))
    assert (result.stdout, result.code) == ("done\n", 0)
    assert processes_with(mark) == []


async def test_a_daemon_that_closed_and_ignores_everything_ends_with_its_command_or_its_time(inside: Inside) -> None:
    mark = new_id("mark")
    done = await inside.python(f"{LINGERS}\nprint('parent')  # {mark}")
    assert done.stdout == "parent\n"
    late = await inside.python(f"{LINGERS}\ntime.sleep(600)  # {mark}", timeout=1.0)
    assert (late.exit.status, late.exit.signal) == (TIMED_OUT, 9)
    assert late.exit.duration.ToMilliseconds() < 20_000
    assert processes_with(mark) == []


async def test_a_command_without_open_descriptors_ends_with_its_own_code(inside: Inside) -> None:
    result = await inside.sh("exec 0<&- 1>&- 2>&-; sleep 0.3; exit 3")
    assert (result.exit.status, result.code) == (COMPLETED, 3)
    assert result.exit.duration.ToMilliseconds() >= 300


async def test_zombies_are_nobodys_burden(inside: Inside) -> None:
    storm = "import os\nfor _ in range(150):\n    if os.fork() == 0: os._exit(0)\nprint('stormed', flush=True)"
    assert (await inside.python(storm)).stdout == "stormed\n"
    orphans = "for each in $(seq 1 500); do (true &) ; done; echo stormed"
    assert (await inside.attempt(orphans)).stdout == "stormed\n"
    assert (await inside.attempt("ps -e 2>/dev/null | grep -c defunct; true")).stdout.strip() in ("0", "")


async def test_a_script_without_a_first_line_is_run_by_the_shell(inside: Inside) -> None:
    await inside.attempt("printf 'echo from a script $1' > plain; chmod +x plain")
    for env in ({}, {"OLDPWD": "/x"}):
        result = await inside.run(command(argv=["./plain", "word"], env=env))
        assert (result.stdout, result.code) == ("from a script word\n", 0)
    await inside.attempt("printf '#!/no/such/program\\n' > broken; chmod +x broken")
    assert (await inside.argv("./broken")).code in (126, 127)


async def test_as_many_arguments_as_the_contract_allows(inside: Inside) -> None:
    result = await inside.argv("/bin/sh", "-c", 'echo $#; [ -z "$1" ] && echo empty', "sh", *[""] * 4092)
    assert result.stdout == "4092\nempty\n"
    with pytest.raises(InvalidInput):
        await inside.argv("true", *["x"] * 4096)


async def test_as_many_variables_as_the_contract_allows(inside: Inside) -> None:
    most = {f"NAME_{number}": "x" * 500 for number in range(256)}
    assert (await inside.sh("env | grep -c NAME_", env=most)).stdout == "256\n"
    with pytest.raises(InvalidInput):
        await inside.sh("true", env=most | {"ONE_MORE": "x"})


async def test_arguments_that_are_no_text_are_refused(inside: Inside, box: BoxProcess) -> None:
    request = process_pb2.ExecOnceRequest(
        session_id=inside.session_id, command=command(argv=["printf", "%s", "MARK"])
    ).SerializeToString()
    broken = request.replace(b"MARK", b"\xff\xfe\xfd\xfc")
    headers = (("authorization", f"Bearer {box.tokens['admin'].text}"),)
    async with grpc.aio.insecure_channel(box.address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/portway.v1.ProcessService/ExecOnce"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(broken, metadata=headers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    # Bytes that are no text reach a program by its input, or through a shell.
    result = await inside.run(command(shell="printf '\\377\\376'; cat"), stdin=b"\xff")
    assert result.response.stdout == b"\xff\xfe\xff"


async def test_frames_of_a_mebibyte_are_taken_and_larger_ones_refused(inside: Inside) -> None:
    call = await begin(inside, "sha256sum")
    data = bytes(range(256)) * 4096
    for _ in range(3):
        await call.write(process_pb2.ExecRequest(stdin=data))
    await call.write(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))
    await until_said(call, hashlib.sha256(data * 3).hexdigest().encode())
    large = await begin(inside, "cat > /dev/null")
    await large.write(process_pb2.ExecRequest(stdin=data + b"x"))
    with pytest.raises(InvalidInput):
        while True:
            await next_frame(large)


async def test_processor_time_counts_those_that_were_left_to_others(inside: Inside) -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    result = await inside.attempt(f"(setsid /usr/bin/python3 -c '{spin}' &); sleep 2")
    assert result.exit.cpu_time.ToMilliseconds() >= 400, result


async def test_out_of_memory_of_a_child_is_told_unless_the_command_ends_well(channel: PortwayChannel) -> None:
    if not await enforces(channel, "memory"):
        pytest.skip("this box bounds the memory of each process alone, and says so in its status")
    small = await new_session(channel, limits=session_pb2.SessionLimits(memory_bytes=96 * MEBI))
    greedy = "/usr/bin/python3 -c 'block = bytearray(400 << 20)'"
    failed = await small.attempt(f"{greedy}; exit 5")
    assert failed.exit.status == OUT_OF_MEMORY
    recovered = await small.attempt(f"{greedy}; echo went on; exit 0")
    assert (recovered.exit.status, recovered.code, recovered.stdout) == (COMPLETED, 0, "went on\n")
    assert recovered.exit.peak_memory_bytes > 50 * MEBI
    after = await small.attempt("exit 5")
    assert (after.exit.status, after.code) == (COMPLETED, 5)
    await small.delete()


async def test_peak_memory_is_told_in_every_mode(inside: Inside) -> None:
    large = await inside.attempt("/usr/bin/python3 -c 'block = bytearray(120 << 20)'; echo done")
    assert large.exit.peak_memory_bytes > 120 * MEBI
    assert (await inside.sh("true")).exit.peak_memory_bytes < 60 * MEBI


async def test_a_signal_reaches_the_whole_process_group(inside: Inside) -> None:
    call = await begin(
        inside, "(trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done) & trap : TERM; wait; wait"
    )
    await until_said(call, b"up\n")
    await call.write(process_pb2.ExecRequest(signal=15))
    await until_said(call, b"child\n")
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert frame.exit.status == COMPLETED


async def test_jobs_are_controlled_from_the_terminal(inside: Inside) -> None:
    job = (
        "import os, signal\n"
        "signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'goes on\\n'))\n"
        "os.write(1, b'started\\n')\n"
        "while True: signal.pause()\n"
    )
    await inside.write("job.py", job.encode())
    call = await begin(inside, "exec bash --norc -i", terminal=(24, 80))

    async def keys(data: bytes) -> None:
        await call.write(process_pb2.ExecRequest(stdin=data))

    await keys(b"PS1=; echo re''ady\n")
    await until_said(call, b"ready\r\n")
    await keys(b"/usr/bin/python3 job.py\n")
    await until_said(call, b"started\r\n")
    await keys(b"\x1a")
    await until_said(call, b"Stopped")
    await keys(b"fg\n")
    # Said by the job itself: only then the terminal is its own again, and not the shell's.
    await until_said(call, b"goes on\r\n")
    await keys(b"\x03")
    await keys(b"echo co''de $?\n")
    await until_said(call, b"code 130\r\n")
    await keys(b"exit 9\n")
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert frame.exit.exit_code == 9


async def test_a_program_that_draws_on_the_terminal_follows_its_size(inside: Inside) -> None:
    program = (
        "import curses\n"
        "def draw(screen):\n"
        # Curses itself sees no change of size between its last look and its waiting for a key.
        "    screen.timeout(50)\n"
        "    while True:\n"
        "        screen.erase(); screen.addstr(0, 0, 'size %dx%d.' % screen.getmaxyx()); screen.refresh()\n"
        "        if screen.getch() == ord('q'): return\n"
        "curses.wrapper(draw)\n"
    )
    await inside.write("draw.py", program.encode())
    call = await begin(inside, "exec /usr/bin/python3 draw.py", terminal=(20, 70))
    await until_said(call, b"20x70")
    await call.write(process_pb2.ExecRequest(resize=process_pb2.TerminalSize(rows=33, columns=101)))
    await until_said(call, b"33x101")
    await call.write(process_pb2.ExecRequest(stdin=b"q"))
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert frame.exit.exit_code == 0


async def test_commands_of_a_serialised_session_run_one_after_the_other_in_their_order(channel: PortwayChannel) -> None:
    session = await new_session(channel, limits=session_pb2.SessionLimits(concurrent_commands=1))
    first = await begin(session, "echo up; read word")
    await until_said(first, b"up\n")
    waiting = []
    for number in range(20):
        waiting.append(asyncio.create_task(session.sh(f"mkdir alone && echo {number} >> order && rmdir alone")))
        # One after the other onto the connection, which keeps their order.
        await asyncio.sleep(0)
    await first.write(process_pb2.ExecRequest(stdin=b"go\n"))
    assert [result.code for result in await asyncio.gather(*waiting)] == [0] * 20
    assert await session.read("order") == b"".join(b"%d\n" % number for number in range(20))
    await session.delete()


async def test_one_who_waits_in_the_queue_and_leaves_holds_up_nobody(channel: PortwayChannel) -> None:
    session = await new_session(channel, limits=session_pb2.SessionLimits(concurrent_commands=1))
    first = await begin(session, "echo up; read word")
    await until_said(first, b"up\n")
    left = [await begin(session, "touch ran") for _ in range(10)]
    for call in left:
        call.cancel()
    last = asyncio.create_task(session.sh("echo fine"))
    await first.write(process_pb2.ExecRequest(stdin=b"go\n"))
    assert (await last).stdout == "fine\n"
    assert (await session.sh("ls")).stdout == ""
    await session.delete()


async def test_many_commands_of_one_session_do_not_hold_up_another(channel: PortwayChannel, inside: Inside) -> None:
    noisy = await new_session(channel, limits=session_pb2.SessionLimits(concurrent_commands=4))
    calls = [await begin(noisy, "sleep 600") for _ in range(40)]
    for _ in range(5):
        assert (await inside.sh("echo fine")).stdout == "fine\n"
    for call in calls:
        call.cancel()
    await noisy.delete()


async def test_a_timeout_counts_time_that_passed_and_not_the_clock(inside: Inside) -> None:
    mark = new_id("mark")
    result = await inside.sh(f"sleep 600; : {mark}", timeout=0.5)
    assert result.exit.status == TIMED_OUT
    assert 400 <= result.exit.duration.ToMilliseconds() < 20_000
    await until_gone(mark)
    short = process_pb2.Command(shell="sleep 600", timeout=seconds(0.001))
    assert (await inside.run(short)).exit.status in (TIMED_OUT, KILLED)
