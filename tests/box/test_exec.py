"""Commands: streams, exits, limits, terminals, and running at most once."""

import asyncio
import os

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Conflict, InvalidInput, NotFound, PortwayError, Reason, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2
from tests.asking import ask
from tests.box.inside import Inside, Options, begin, command, next_frame, seconds, until_said
from tests.box.machine import seen, until_gone

TELLS_HOW_CHILDREN_END = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)
COMPLETED = process_pb2.EXIT_STATUS_COMPLETED
KILLED = process_pb2.EXIT_STATUS_KILLED


async def frames_of(call: object) -> list[process_pb2.ExecResponse]:
    frames: list[process_pb2.ExecResponse] = []
    with errors_by_meaning():
        async for frame in call:  # type: ignore[attr-defined]
            frames.append(frame)
    return frames


async def test_a_stream_begins_with_started_and_ends_with_exactly_one_exit(inside: Inside) -> None:
    frames = await frames_of(await begin(inside, "echo out; echo err >&2; exit 3"))
    kinds = [frame.WhichOneof("kind") for frame in frames]
    assert (kinds[0], kinds[-1]) == ("started", "exit")
    assert kinds.count("exit") == 1
    assert b"".join(frame.stdout for frame in frames) == b"out\n"
    assert b"".join(frame.stderr for frame in frames) == b"err\n"
    ended = frames[-1].exit
    assert (ended.status, ended.exit_code) == (COMPLETED, 3)
    assert ended.duration.ToNanoseconds() > 0
    assert ended.cpu_time.ToNanoseconds() > 0


async def test_input_reaches_the_command_and_its_end_too(inside: Inside) -> None:
    call = await begin(inside, "cat; echo -n done")
    await call.write(process_pb2.ExecRequest(stdin=b"one "))
    await until_said(call, b"one ")
    await call.write(process_pb2.ExecRequest(stdin=b"two "))
    await call.write(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))
    await until_said(call, b"done")
    assert (await next_frame(call)).exit.status == COMPLETED


async def test_bytes_pass_unchanged_in_both_directions(inside: Inside) -> None:
    data = bytes(range(256)) * 4000
    result = await inside.run(command(shell="cat"), stdin=data, output_limit=1_048_576)
    assert result.response.stdout == data[:1_048_576]


async def test_offsets_count_the_bytes_of_each_stream(inside: Inside) -> None:
    frames = await frames_of(await begin(inside, "for each in 1 2 3; do echo $each; echo e$each >&2; sleep 0.05; done"))
    for name in ("stdout", "stderr"):
        position = 0
        for frame in frames:
            if frame.WhichOneof("kind") == name:
                assert frame.offset == position
                position += len(getattr(frame, name))
        assert position > 0


async def test_output_keeps_head_and_tail_sixty_to_forty(inside: Inside) -> None:
    result = await inside.run(command(shell="seq 1 100000"), output_limit=1000)
    whole = "".join(f"{number}\n" for number in range(1, 100_001))
    assert result.stdout == whole[:600] + whole[-400:]
    assert result.response.stdout_truncated_bytes == len(whole) - 1000


async def test_the_whole_output_is_kept_in_a_file_when_asked(inside: Inside) -> None:
    wanted = command(shell="seq 1 20000; echo bad >&2")
    request = process_pb2.ExecOnceRequest(session_id=inside.session_id, command=wanted, output_file="logs.txt")
    answer = await ask(inside.channel, request)
    assert answer.stdout_truncated_bytes > 0
    kept = await inside.read("logs.txt")
    assert kept.replace(b"bad\n", b"") == b"".join(b"%d\n" % number for number in range(1, 20_001))
    assert b"bad\n" in kept


async def test_a_signal_is_told_as_such(inside: Inside) -> None:
    result = await inside.sh("kill -TERM $$")
    assert (result.exit.status, result.exit.signal) == (KILLED, 15)
    assert not result.exit.HasField("exit_code")


@pytest.mark.parametrize("terminal", [None, (24, 80)])
async def test_exit_codes_are_told_apart_from_signals(inside: Inside, terminal: tuple[int, int] | None) -> None:
    if not TELLS_HOW_CHILDREN_END:
        pytest.skip("this kernel (before 6.15) does not tell: codes above 128 are taken for signals, as shells do")
    options: Options = {} if terminal is None else {"terminal": terminal}
    codes = [0, 1, 2, 126, 127, 128, 129, 130, 134, 137, 139, 143, 159, 192, 200, 254, 255]
    results = await asyncio.gather(*(inside.sh(f"exit {code}", **options) for code in codes))
    assert [(result.exit.status, result.code) for result in results] == [(COMPLETED, code) for code in codes]
    signals = [1, 2, 3, 6, 9, 11, 13, 15, 31]
    ended = await asyncio.gather(*(inside.sh(f"kill -{number} $$", **options) for number in signals))
    assert [(result.exit.status, result.exit.signal) for result in ended] == [(KILLED, number) for number in signals]
    assert not any(result.exit.HasField("exit_code") for result in ended)


async def test_signals_reach_the_command(inside: Inside) -> None:
    call = await begin(inside, "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    await until_said(call, b"ready\n")
    await call.write(process_pb2.ExecRequest(signal=10))
    await until_said(call, b"got\n")
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert frame.exit.exit_code == 5


async def test_a_terminal_has_a_size_a_job_control_and_an_interrupt_key(inside: Inside) -> None:
    call = await begin(inside, "tty; stty size; cat", terminal=(31, 97))
    await until_said(call, b"31 97")
    await call.write(process_pb2.ExecRequest(resize=process_pb2.TerminalSize(rows=40, columns=120)))
    await call.write(process_pb2.ExecRequest(stdin=b"typed\n"))
    await until_said(call, b"typed\r\ntyped")
    await call.write(process_pb2.ExecRequest(stdin=b"\x03"))
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert (frame.exit.status, frame.exit.signal) == (KILLED, 2)


async def test_a_resize_is_seen_by_the_command(inside: Inside) -> None:
    call = await begin(
        inside, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done", terminal=(5, 5)
    )
    await until_said(call, b"ready")
    await call.write(process_pb2.ExecRequest(resize=process_pb2.TerminalSize(rows=40, columns=120)))
    await until_said(call, b"40 120")
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        pass
    assert frame.exit.status == COMPLETED


@pytest.mark.parametrize(
    ("argv", "code"), [(["no-such-program"], 127), (["/etc/passwd"], 126), (["/workspace"], 126), (["/no/such"], 127)]
)
async def test_what_cannot_be_executed_ends_as_in_a_shell(inside: Inside, argv: list[str], code: int) -> None:
    result = await inside.argv(*argv)
    assert (result.exit.status, result.code) == (COMPLETED, code)
    assert argv[0] in result.stderr


async def test_arguments_are_passed_as_they_are(inside: Inside) -> None:
    odd = ["", " ", "a b", "$HOME", "*", "'\"\\", "--", "-x", "\n", "你好", "\x01\x7f"]
    result = await inside.argv("/usr/bin/env", "python3", "-c", "import sys; print(sys.argv[1:])", *odd)
    assert result.stdout.strip() == str(odd)


async def test_the_environment_is_what_was_asked_for_and_nothing_else(inside: Inside) -> None:
    result = await inside.sh("env", env={"GREETING": "hi there\nline", "PATH": "/usr/bin:/bin"})
    names = {line.split("=")[0] for line in result.stdout.splitlines() if "=" in line}
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "GREETING", "PWD"}
    assert "GREETING=hi there\nline" in result.stdout


async def test_a_working_directory_is_used_and_a_missing_one_is_told(inside: Inside) -> None:
    await inside.sh("mkdir -p deep/er")
    assert (await inside.sh("pwd", cwd="/workspace/deep/er")).stdout == "/workspace/deep/er\n"
    with pytest.raises(InvalidInput, match="working_directory"):
        await inside.sh("pwd", cwd="/workspace/missing")


@pytest.mark.parametrize(
    "wanted",
    [
        process_pb2.Command(),
        process_pb2.Command(shell=""),
        process_pb2.Command(shell="a\0b"),
        process_pb2.Command(argv=process_pb2.Argv(args=["x\0y"])),
        process_pb2.Command(argv=process_pb2.Argv(args=[""])),
        process_pb2.Command(shell="true", working_directory="relative"),
        process_pb2.Command(shell="true", working_directory="/workspace/../etc"),
        process_pb2.Command(shell="true", env={"A=B": "x"}),
        process_pb2.Command(shell="true", env={"A": "x\0y"}),
        process_pb2.Command(shell="true", timeout=seconds(-1)),
        process_pb2.Command(shell="true", timeout=seconds(0)),
        process_pb2.Command(shell="true", timeout=seconds(100_000)),
        process_pb2.Command(shell="true", timeout=seconds(1), longest_time=True),
        process_pb2.Command(shell="x" * 131_072),
        process_pb2.Command(argv=process_pb2.Argv(args=["true", *["x" * 1000] * 200])),
        process_pb2.Command(shell="true", env={f"N{number}": "x" * 2000 for number in range(200)}),
        process_pb2.Command(shell="true", terminal=process_pb2.TerminalSize(rows=0, columns=10)),
    ],
)
async def test_nonsense_is_refused_with_the_field_that_is_wrong(inside: Inside, wanted: process_pb2.Command) -> None:
    with pytest.raises(InvalidInput) as caught:
        await inside.run(wanted)
    assert caught.value.fields
    assert caught.value.fields[0].field.startswith("command")


async def test_the_longest_command_line_works(inside: Inside) -> None:
    result = await inside.sh("echo ${#LONG}; : " + "x" * 130_000, env={"LONG": "y" * 120_000})
    assert result.stdout == "120000\n"


async def test_frames_out_of_order_are_refused(inside: Inside) -> None:
    call = inside.processes.Exec()
    await call.write(process_pb2.ExecRequest(stdin=b"first"))
    with pytest.raises(InvalidInput) as caught:
        await frames_of(call)
    assert caught.value.reason == Reason.UNEXPECTED_FRAME
    mark = new_id("mark")
    twice = await begin(inside, f"sleep 60; : {mark}")
    await seen(mark)
    await twice.write(
        process_pb2.ExecRequest(start=process_pb2.ExecStart(session_id="x", command=command(shell="true")))
    )
    with pytest.raises(InvalidInput):
        while True:
            await next_frame(twice)
    await until_gone(mark)


async def test_an_unknown_session_is_not_found(channel: PortwayChannel) -> None:
    with pytest.raises(NotFound):
        await Inside(channel, "nobody").sh("true")
    with pytest.raises(NotFound):
        await frames_of(await begin(Inside(channel, "nobody"), "true"))


async def test_commands_run_side_by_side_and_serialised_ones_do_not(channel: PortwayChannel, inside: Inside) -> None:
    results = await asyncio.gather(*(inside.sh("echo $$ > /tmp/x; sleep 0.2; echo ok") for _ in range(8)))
    assert [result.stdout for result in results] == ["ok\n"] * 8


async def test_a_request_id_runs_a_command_once_and_replays_its_result(inside: Inside) -> None:
    wanted = command(shell="echo ran >> count.txt; echo answer; exit 4")
    first, second = await asyncio.gather(inside.run(wanted, request_id="one"), inside.run(wanted, request_id="one"))
    third = await inside.run(wanted, request_id="one")
    assert [first.stdout, second.stdout, third.stdout] == ["answer\n"] * 3
    assert sorted([first.response.replayed, second.response.replayed]) == [False, True]
    assert third.response.replayed
    assert third.code == 4
    assert await inside.read("count.txt") == b"ran\n"
    frames = await frames_of(await begin(inside, wanted.shell, request_id="one"))
    assert b"".join(frame.stdout for frame in frames) == b"answer\n"
    assert frames[-1].exit.exit_code == 4


async def test_a_request_id_of_another_command_is_a_conflict(inside: Inside) -> None:
    await inside.run(command(shell="true"), request_id="one")
    with pytest.raises(Conflict):
        await inside.run(command(shell="false"), request_id="one")


async def test_reconciling_never_runs_anything(inside: Inside) -> None:
    wanted = command(shell="echo ran >> count.txt; echo answer")
    request = process_pb2.ExecOnceRequest(
        session_id=inside.session_id, command=wanted, request_id="one", reconcile=True
    )
    with pytest.raises(WrongState) as caught:
        await ask(inside.channel, request)
    assert caught.value.reason == Reason.EFFECT_UNKNOWN
    await inside.run(wanted, request_id="one")
    answer = await ask(inside.channel, request)
    assert (answer.stdout, answer.replayed) == (b"answer\n", True)
    assert await inside.read("count.txt") == b"ran\n"


async def test_a_cancelled_command_is_known_as_killed(inside: Inside) -> None:
    call = await begin(inside, "echo begun; sleep 60", request_id="one")
    await until_said(call, b"begun\n")
    call.cancel()
    again = await inside.run(command(shell="echo begun; sleep 60"), request_id="one")
    assert again.response.replayed
    assert (again.exit.status, again.exit.signal, again.stdout) == (KILLED, 9, "begun\n")


async def test_a_command_that_could_not_begin_may_be_tried_again(inside: Inside) -> None:
    wanted = command(shell="echo fine", cwd="/workspace/later")
    with pytest.raises(PortwayError):
        await inside.run(wanted, request_id="one")
    await inside.sh("mkdir later")
    assert (await inside.run(wanted, request_id="one")).stdout == "fine\n"


async def test_peak_memory_and_processor_time_are_those_of_the_command(inside: Inside) -> None:
    program = "import time\nblock = bytearray(100 << 20)\nwhile time.process_time() < 0.4: pass"
    result = await inside.python(program)
    assert result.exit.cpu_time.ToMilliseconds() >= 300
    if result.exit.HasField("peak_memory_bytes"):
        assert result.exit.peak_memory_bytes > 100 << 20
        small = await inside.sh("true")
        assert small.exit.peak_memory_bytes < 50 << 20
        assert small.exit.cpu_time.ToMilliseconds() < 200


async def test_a_megabyte_a_line_and_a_hundred_of_them_arrive_whole(inside: Inside) -> None:
    call = await begin(inside, "head -c 100000000 /dev/zero")
    received = 0
    while (frame := await next_frame(call)).WhichOneof("kind") != "exit":
        received += len(frame.stdout)
    assert received == 100_000_000


@pytest.mark.parametrize("name", ["IFS", "OLDPWD", "UID", "A-B", "ÄÖ", "_", "PS1", "SHLVL", "PATH"])
async def test_any_variable_reaches_the_command_as_it_is(inside: Inside, name: str) -> None:
    value = "/usr/bin:/bin" if name == "PATH" else " some 'odd' value\n$HOME "
    program = f"import os; print(repr(os.environb.get({name.encode()!r})))"
    result = await inside.argv("/usr/bin/python3", "-c", program, env={name: value})
    assert result.stdout.strip() == repr(value.encode())


async def test_a_command_sees_the_same_whether_it_was_waited_for_or_not(inside: Inside) -> None:
    script = (
        "env | sort; pwd; ls /proc/self/fd; cat /proc/self/status | grep -E '^(Sig[^Q]|Cap|Nice)'; umask; ulimit -a"
    )
    # A variable that a shell keeps for itself is given by another way in.
    waited, anew = await asyncio.gather(inside.sh(script), inside.sh(script, env={"OLDPWD": "/x"}))
    assert waited.stdout == anew.stdout.replace("OLDPWD=/x\n", "")
    there = await inside.sh(f"mkdir -p sub/dir; cd sub/dir; {script}", cwd="/workspace")
    again = await inside.sh(script, cwd="/workspace/sub/dir")
    assert again.stdout == there.stdout.replace("OLDPWD=/workspace\n", "")


async def test_outputs_can_be_opened_anew_by_name(inside: Inside) -> None:
    result = await inside.sh("echo one > /dev/stdout; echo two > /dev/stderr; echo three | cat /dev/stdin")
    assert (result.stdout, result.stderr) == ("one\nthree\n", "two\n")


@pytest.mark.parametrize(
    ("tool", "script", "said"),
    [
        ("node", "node -e 'console.log(6 * 7)'", "42"),
        ("gcc", "echo 'int main(void) { return 42; }' > a.c && gcc -o a a.c; ./a; echo $?", "42"),
        ("perl", "perl -e 'print 6 * 7'", "42"),
        ("git", "git init -q . && echo x > f && git add f && git status --short", "A  f"),
        ("bash", "bash -c 'echo $((6 * 7)) | cat'", "42"),
        ("script", "script -qc 'echo 42' /dev/null", "42"),
    ],
)
async def test_the_tools_of_the_machine_work(inside: Inside, tool: str, script: str, said: str) -> None:
    result = await inside.attempt(f"command -v {tool} > /dev/null || {{ echo missing; exit 0; }}; {script}")
    if result.stdout == "missing\n":
        pytest.skip(f"{tool} is not in /usr of this machine")
    assert said in result.stdout, result


@pytest.mark.parametrize(("typed", "seen"), [(b"", ""), (b"a line\n", "a line\r\n"), (b"half a line", "half a line")])
async def test_input_on_a_terminal_ends_where_it_was_given_whole(inside: Inside, typed: bytes, seen: str) -> None:
    request = process_pb2.ExecOnceRequest(
        session_id=inside.session_id,
        command=command(shell="stty -echo; echo ready; cat; echo END", terminal=(24, 80)),
        stdin=typed,
    )
    response = await inside.processes.ExecOnce(request)
    assert response.exit.status == COMPLETED, response
    assert response.stdout.decode().endswith(f"{seen}END\r\n"), response
