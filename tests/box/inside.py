"""What tests do with a box: sessions, commands and files over the wire, in few words."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypedDict, Unpack

import grpc
from google.protobuf.duration_pb2 import Duration

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2, box_pb2_grpc, file_pb2, file_pb2_grpc, process_pb2, process_pb2_grpc, session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess

ALIVE = "the sandbox runs"
Exec = grpc.aio.StreamStreamCall[process_pb2.ExecRequest, process_pb2.ExecResponse]


class Options(TypedDict, total=False):
    """How a command is run. The timeout is in seconds, the terminal has rows and columns."""

    cwd: str
    env: Mapping[str, str]
    timeout: float
    terminal: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Result:
    """A command that ended."""

    stdout: str
    stderr: str
    exit: process_pb2.Exit
    response: process_pb2.ExecOnceResponse

    @property
    def code(self) -> int | None:
        return self.exit.exit_code if self.exit.HasField("exit_code") else None

    def __str__(self) -> str:
        return f"exit {self.exit}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class Inside:
    """One session."""

    def __init__(self, channel: PortwayChannel, session_id: str) -> None:
        self.channel = channel
        self.session_id = session_id
        self.processes = process_pb2_grpc.ProcessServiceStub(channel)
        self._files = file_pb2_grpc.FileServiceStub(channel)

    async def sh(self, script: str, **options: Unpack[Options]) -> Result:
        return await self.run(command(shell=script, **options))

    async def argv(self, *args: str, **options: Unpack[Options]) -> Result:
        return await self.run(command(argv=args, **options))

    async def run(
        self, wanted: process_pb2.Command, *, stdin: bytes = b"", output_limit: int = 200_000, request_id: str = ""
    ) -> Result:
        request = process_pb2.ExecOnceRequest(
            session_id=self.session_id,
            command=wanted,
            stdin=stdin,
            output_limit=output_limit,
            request_id=request_id,
        )
        answer = await ask(self.channel, request)
        return Result(
            answer.stdout.decode(errors="replace"), answer.stderr.decode(errors="replace"), answer.exit, answer
        )

    async def attempt(self, script: str, **options: Unpack[Options]) -> Result:
        """An escape attempt. Fails where the sandbox itself did not run: then nothing was tried."""
        result = await self.sh(f"echo '{ALIVE}'\n{script}", **options)
        assert result.stdout.startswith(ALIVE), f"the attempt was never made: {result}"
        return Result(result.stdout[len(ALIVE) + 1 :], result.stderr, result.exit, result.response)

    async def python(self, program: str, **options: Unpack[Options]) -> Result:
        """An escape attempt in Python."""
        return await self.attempt(f"exec /usr/bin/python3 -I - <<'PROGRAM'\n{program}\nPROGRAM\n", **options)

    async def user(self) -> str:
        """Its commands' user, as they see it."""
        return (await self.argv("id", "-u")).stdout.strip()

    def path(self, path: str) -> file_pb2.FilePath:
        return file_pb2.FilePath(session_id=self.session_id, path=path)

    async def read(self, path: str, offset: int = 0, length: int = 0) -> bytes:
        data = b""
        request = file_pb2.ReadFileRequest(file=self.path(path), offset=offset, length=length)
        with errors_by_meaning():
            async for piece in self._files.ReadFile(request):
                data += piece.data
        return data

    async def write(self, path: str, *pieces: bytes, **start: object) -> file_pb2.WriteFileResponse:
        async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
            begin = file_pb2.WriteFileStart(file=self.path(path), **start)  # type: ignore[arg-type]
            yield file_pb2.WriteFileRequest(start=begin)
            for piece in pieces:
                yield file_pb2.WriteFileRequest(data=piece)

        with errors_by_meaning():
            return await self._files.WriteFile(frames())

    async def delete(self) -> session_pb2.DeleteSessionResponse:
        answer: session_pb2.DeleteSessionResponse = await ask(
            self.channel, session_pb2.DeleteSessionRequest(session_id=self.session_id)
        )
        return answer


def command(
    *,
    shell: str = "",
    argv: Sequence[str] = (),
    cwd: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    terminal: tuple[int, int] | None = None,
) -> process_pb2.Command:
    made = process_pb2.Command(working_directory=cwd, env=env or {}, timeout=seconds(timeout))
    if argv:
        made.argv.args.extend(argv)
    else:
        made.shell = shell
    if terminal is not None:
        made.terminal.CopyFrom(process_pb2.TerminalSize(rows=terminal[0], columns=terminal[1]))
    return made


async def begin(session: Inside, script: str, *, request_id: str = "", **options: Unpack[Options]) -> Exec:
    """A command under way, with its streams."""
    call: Exec = session.processes.Exec()
    wanted = command(shell=script, **options)
    start = process_pb2.ExecStart(session_id=session.session_id, command=wanted, request_id=request_id)
    await call.write(process_pb2.ExecRequest(start=start))
    return call


async def next_frame(call: Exec) -> process_pb2.ExecResponse:
    """The next answer of a command; its end is a failure here."""
    with errors_by_meaning():
        frame = await call.read()
    assert isinstance(frame, process_pb2.ExecResponse), frame
    return frame


async def until_said(call: Exec, text: bytes) -> None:
    """Reads until the command has said `text`."""
    said = b""
    while text not in said:
        frame = await next_frame(call)
        assert not frame.HasField("exit"), f"it ended ({frame.exit}) and had said {said!r}"
        said += frame.stdout


def seconds(value: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(round(value * 1e9))
    return made


async def enforces(channel: PortwayChannel, limit: str) -> bool:
    """Whether the box says that it enforces a limit on this machine."""
    status = await ask(channel, box_pb2.GetBoxStatusRequest())
    return not any(limit in said for said in status.backend.unenforced_limits)


async def box_memory(channel: PortwayChannel) -> int:
    """What the box server itself holds."""
    call = box_pb2_grpc.BoxServiceStub(channel).WatchStats(box_pb2.WatchStatsRequest())
    first = await call.read()
    call.cancel()
    assert isinstance(first, box_pb2.WatchStatsResponse)
    return first.memory_bytes


@asynccontextmanager
async def dial(box: BoxProcess, role: str = "admin") -> AsyncIterator[PortwayChannel]:
    async with open_channel(box.address, token=box.tokens[role].text) as channel:
        yield channel


async def new_session(channel: PortwayChannel, *, session_id: str = "", **spec: object) -> Inside:
    """A session with an id of its own."""
    name = session_id or new_id("tst").replace("_", "-")
    wanted = session_pb2.SessionSpec(**spec)  # type: ignore[arg-type]
    await ask(channel, session_pb2.CreateSessionRequest(session_id=name, spec=wanted))
    return Inside(channel, name)
