"""`portway box ps` and `portway box logs`: what runs in a session, and what a managed process says."""

import sys
from typing import Annotated

import typer
from google.protobuf.message import Message

from portway.clients.box import CALL_SECONDS
from portway.clients.cli import session
from portway.clients.cli.box.endings import LOST, exit_code
from portway.clients.cli.box.reaching import Json, ReachedBox, Workspace, reached
from portway.clients.endpoint import Endpoint
from portway.rpc.client_stream import send
from portway.rpc.errors import OutOfRange
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2, session_pb2

SessionId = Annotated[str, typer.Argument(help="Session id.")]
_SHOWN = ("command", "call", "offer")


def register(box: typer.Typer) -> None:
    box.command()(ps)
    box.command()(logs)


def ps(
    session_id: Annotated[str, typer.Argument(help="Session id.")] = "",
    session_option: Annotated[str, typer.Option("--session", help="The same, as an option.")] = "",
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """The managed processes of a session, and the commands that run in it now."""
    name = session_id or session_option or "cli"

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            processes = await found.box.list_processes(name, found.workspace_id)
            request = session_pb2.ListHeldRequest(session_id=name, workspace_id=found.workspace_id, page_size=200)
            with errors_by_meaning():
                held = (await found.box.sessions.ListHeld(request, timeout=CALL_SECONDS)).items
        running = [item for item in held if item.kind in _SHOWN]
        if as_json:
            session.print_json({"processes": processes, "running": running})
            return
        rows = [_process_row(one) for one in processes]
        rows += [(item.kind, item.id, item.state, "", session.when(item.create_time), "") for item in running]
        session.print_table(("kind", "id", "state", "restarts", "since", "command"), rows)

    session.run(work)


def _process_row(process: process_pb2.Process) -> tuple[str, ...]:
    state = session.name_of(process_pb2.ProcessState.DESCRIPTOR, process.state)
    if process.HasField("exit"):
        end = process.exit
        state += f" ({end.exit_code})" if end.HasField("exit_code") else f" (signal {end.signal})"
    command = " ".join(process.command.argv.args) or process.command.shell
    started = session.when(process.start_time)
    return "process", process.process_id, state, str(process.restart_count), started, command


def logs(
    session_id: SessionId,
    process_id: Annotated[str, typer.Argument(help="Process id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until it ends.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="First byte of its output that is wanted.")] = 0,
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """What a managed process said, as far as it is kept; with --follow also what comes, and then its exit code."""

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            code = await _Logs(found, session_id, process_id, as_json).show(offset, follow)
        raise typer.Exit(code)

    session.run(work)


class _Logs:
    """Prints the output of one process to the same two streams."""

    def __init__(self, found: ReachedBox, session_id: str, process_id: str, as_json: bool) -> None:
        self._found = found
        self._start = process_pb2.AttachStart(
            session_id=session_id, workspace_id=found.workspace_id, process_id=process_id
        )
        self._as_json = as_json

    async def show(self, offset: int, follow: bool) -> int:
        """Returns the exit code: the process's own where its end was seen while following."""
        self._start.stdout_offset = self._start.stderr_offset = offset
        try:
            return await self._attached(follow)
        except OutOfRange:
            # Its errors are shorter than its output: nothing of them is wanted.
            self._start.stderr_offset = -1
            return await self._attached(follow)

    async def _attached(self, follow: bool) -> int:
        call = self._found.box.processes.AttachProcess()
        try:
            with errors_by_meaning():
                await send(call, process_pb2.AttachProcessRequest(attach=self._start))
                first = await call.read()
                if not isinstance(first, process_pb2.AttachProcessResponse):
                    return LOST
                left = [first.attached.stdout_bytes, first.attached.stderr_bytes]
                while follow or self._is_behind(left):
                    frame = await call.read()
                    if not isinstance(frame, process_pb2.AttachProcessResponse):
                        return LOST
                    if frame.HasField("exit"):
                        return exit_code(frame.exit) if follow else 0
                    self._print(frame)
                    self._note(frame)
                return 0
        finally:
            call.cancel()

    def _is_behind(self, ends: list[int]) -> bool:
        """Whether there is output from before the attachment that has not come yet."""
        wanted = (self._start.stdout_offset, self._start.stderr_offset)
        return any(0 <= at < end for at, end in zip(wanted, ends, strict=True))

    def _note(self, frame: process_pb2.AttachProcessResponse) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "stdout":
            self._start.stdout_offset = frame.offset + len(frame.stdout)
        elif kind == "stderr":
            self._start.stderr_offset = frame.offset + len(frame.stderr)
        elif kind == "output_gap":
            end = frame.offset + frame.output_gap.missing_bytes
            # The frame does not say of which output it is: the one that is at its beginning.
            if self._start.stdout_offset == frame.offset:
                self._start.stdout_offset = end
            else:
                self._start.stderr_offset = end

    def _print(self, frame: process_pb2.AttachProcessResponse) -> None:
        if self._as_json:
            session.print_json_line(_plain(frame))
            return
        match frame.WhichOneof("kind"):
            case "stdout":
                sys.stdout.buffer.write(frame.stdout)
                sys.stdout.buffer.flush()
            case "stderr":
                sys.stderr.buffer.write(frame.stderr)
                sys.stderr.buffer.flush()
            case "output_gap":
                typer.echo(f"portway: {frame.output_gap.missing_bytes} bytes before this are no longer kept", err=True)
            case _:
                pass


def _plain(frame: process_pb2.AttachProcessResponse) -> dict[str, object]:
    """Text as text: bytes that are none are replaced."""
    kind = frame.WhichOneof("kind") or ""
    value = getattr(frame, kind)
    shown: object = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(shown, Message):
        shown = {"missing_bytes": frame.output_gap.missing_bytes}
    return {"kind": kind, "offset": frame.offset, "content": shown}
