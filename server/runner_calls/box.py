"""RunBox: a command or a process in the run's own session, frame by frame.

Session ids in frames are ignored. Input is taken no faster than the box takes it: what is under way towards it is
bounded, and `taken_bytes` tells the caller how far it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol

from portway.clients.sockets.serve import ServedSocket
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import InvalidInput, NotFound, Reason, Unavailable, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.server.approvals.gate import ApprovalGate, Wanted
from portway.server.approvals.policy import command_needs
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.holdings import Held
from portway.server.runner_calls.scope import RunScope
from portway.server.snapshot.freeze import Snapshot
from portway.server.switches.directory import KillSwitches
from portway.server.switches.types import SwitchKind
from portway.server.tools.box_client import BoxClient
from portway.server.tools.types import Availability, BoxSession
from portway.v1 import process_pb2
from portway.v1 import run_pull_pb2 as pb

_CALL_SECONDS = 90.0
MODELS, BRIDGE = "models", "bridge"

Frames = AsyncIterator[pb.RunBoxRequest]


class RunSockets(Protocol):
    """Offers a run's models and its bridge inside its session."""

    def offered(
        self, run: RunScope, session: BoxSession, kind: str, name: str, port: int
    ) -> AbstractAsyncContextManager[ServedSocket]:
        """While the block runs. Raises Conflict (name, port)."""


class BoxCalls:
    """RunBox. `state` tells how the box is now."""

    def __init__(
        self,
        box: BoxClient,
        state: Callable[[], Availability],
        gate: ApprovalGate,
        switches: KillSwitches,
        sockets: RunSockets,
    ) -> None:
        self._box = box
        self._state = state
        self._gate = gate
        self._switches = switches
        self._sockets = sockets

    async def run_box(self, run: RunScope, frames: Frames, emit: Emit) -> None:
        first = await anext(frames, None)
        kind = first.WhichOneof("kind") if first is not None else None
        if first is None or kind is None:
            raise InvalidInput.field("kind", "the first frame says what is to be done")
        run.allow("box_exec" if kind in ("exec", "serve_models", "serve_bridge") else "box_processes", "RunBox")
        if kind == "serve_models" and "models_invoke" not in run.snapshot.permissions.allowed:
            run.allow("models_stream", "RunBox")
        # It is what the tool `exec` does, by another way.
        self._switches.check(run.workspace_id, SwitchKind.TOOL, "exec")
        session = session_of(run.snapshot, run.workspace_id, run.conversation_id)
        state = self._state()
        if not state.available:
            raise Unavailable(f"the box cannot be used now: {state.reason}", reason=Reason.TOOL_UNAVAILABLE)
        await self._box.ensure(session)
        if kind == "serve_models":
            # As long as the run, whose clock may stand still meanwhile.
            return await self._serve_models(run, session, first.serve_models, emit)
        if kind == "serve_bridge":
            return await self._serve_bridge(run, session, first.serve_bridge, emit)
        # Before the clock of the call: while a person is asked, the run's own stands still.
        if kind == "exec":
            await self._approved(run, first.exec.start.command)
        elif kind == "start_process":
            await self._approved(run, first.start_process.command)
        async with run.in_time():
            match kind:
                case "exec":
                    await self._exec(run, session, first, frames, emit)
                case "attach":
                    await self._attach(session, first, frames, emit)
                case _:
                    await emit(pb.RunBoxResponse(process=await self._process(run, session, first)), True)

    async def _exec(
        self, run: RunScope, session: BoxSession, first: pb.RunBoxRequest, frames: Frames, emit: Emit
    ) -> None:
        if first.exec.WhichOneof("kind") != "start":
            raise InvalidInput.field("exec.start", "the first frame of a command is its start")
        start = first.exec.start
        _place(start, session)
        # By its id the box can be asked whether the command is gone.
        start.request_id = start.request_id or new_id("eff")
        # A command of a run ends with its stream: nobody could come back to it.
        start.ClearField("linger")

        def next_of(frame: pb.RunBoxRequest) -> process_pb2.ExecRequest:
            if frame.WhichOneof("kind") != "exec" or frame.exec.WhichOneof("kind") == "start":
                raise InvalidInput.field("kind", "after the start come input, its end, sizes and signals")
            return frame.exec

        with errors_by_meaning():
            call = self._box.processes.Exec()
            run.held.add(Held("process", start.request_id, look=lambda: self._gone(start)))
            await _converse(call, first.exec, next_of, frames, emit, lambda one: pb.RunBoxResponse(exec=one))
        run.held.drop("process", start.request_id)

    async def _gone(self, start: process_pb2.ExecStart) -> None:
        """Returns when the command has ended. Raises WrongState where the box does not know."""
        request = process_pb2.ExecOnceRequest(
            session_id=start.session_id,
            workspace_id=start.workspace_id,
            command=start.command,
            request_id=start.request_id,
            reconcile=True,
        )
        with errors_by_meaning(), suppress(NotFound):
            await self._box.processes.ExecOnce(request, timeout=_CALL_SECONDS)

    async def _end(self, process: process_pb2.Process, session: BoxSession) -> None:
        """Stop a process that the run had started for itself. Returns when it is gone."""
        request = process_pb2.StopProcessRequest(process_id=process.process_id)
        _place(request, session)
        with errors_by_meaning(), suppress(NotFound):
            await self._box.processes.StopProcess(request, timeout=_CALL_SECONDS)

    async def _attach(self, session: BoxSession, first: pb.RunBoxRequest, frames: Frames, emit: Emit) -> None:
        if first.attach.WhichOneof("kind") != "attach":
            raise InvalidInput.field("attach.attach", "the first frame names the process")
        _place(first.attach.attach, session)

        def next_of(frame: pb.RunBoxRequest) -> process_pb2.AttachProcessRequest:
            if frame.WhichOneof("kind") != "attach" or frame.attach.WhichOneof("kind") == "attach":
                raise InvalidInput.field("kind", "after the first frame come input, its end, sizes and signals")
            return frame.attach

        with errors_by_meaning():
            call = self._box.processes.AttachProcess()
            await _converse(call, first.attach, next_of, frames, emit, lambda one: pb.RunBoxResponse(attach=one))

    async def _process(self, run: RunScope, session: BoxSession, first: pb.RunBoxRequest) -> process_pb2.Process:
        with errors_by_meaning():
            if first.WhichOneof("kind") == "start_process":
                _place(first.start_process, session)
                started = await self._box.processes.StartProcess(first.start_process, timeout=_CALL_SECONDS)
                if not started.existed:
                    one = started.process
                    run.held.add(Held("process", one.process_id, look=lambda: self._end(one, session)))
                return started.process
            _place(first.stop_process, session)
            stopped = await self._box.processes.StopProcess(first.stop_process, timeout=_CALL_SECONDS)
            run.held.drop("process", stopped.process.process_id)
            return stopped.process

    async def _serve_models(self, run: RunScope, session: BoxSession, wanted: pb.ServeModels, emit: Emit) -> None:
        """Until the call is cancelled, or the run ends."""
        async with self._sockets.offered(run, session, MODELS, wanted.name or "models", wanted.port) as served:
            port = served.place.port
            base = f"http://127.0.0.1:{port}"
            place = pb.ModelsSocket(
                path=served.place.path, port=port, openai_base_url=f"{base}/v1", anthropic_base_url=base
            )
            await emit(pb.RunBoxResponse(models_socket=place), False)
            await _while_served(run, served)

    async def _serve_bridge(self, run: RunScope, session: BoxSession, wanted: pb.ServeBridge, emit: Emit) -> None:
        """As the models."""
        async with self._sockets.offered(run, session, BRIDGE, wanted.name or "bridge", wanted.port) as served:
            port = served.place.port
            place = pb.BridgeSocket(path=served.place.path, port=port, url=f"http://127.0.0.1:{port}/mcp")
            await emit(pb.RunBoxResponse(bridge_socket=place), False)
            await _while_served(run, served)

    async def _approved(self, run: RunScope, command: process_pb2.Command) -> None:
        """Wait for a person, where the agent's policy says so."""
        line = command.shell if command.HasField("shell") else " ".join(command.argv.args)
        if command_needs(run.snapshot.spec, line):
            what = f"Run the command: {line}"
            await self._gate.ask(
                run,
                Wanted(
                    kind="command", name="exec", call_id=new_id("call"), title=what[:500], arguments={"command": line}
                ),
            )


async def _while_served(run: RunScope, served: ServedSocket) -> None:
    """Until the run ends. Raises what ended the socket before that."""
    over = asyncio.ensure_future(run.over.wait())
    ended = asyncio.ensure_future(served.ended())
    try:
        await asyncio.wait([over, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
    finally:
        for one in (over, ended):
            one.cancel()
        await asyncio.gather(over, ended, return_exceptions=True)


def session_of(snapshot: Snapshot, workspace_id: str, conversation_id: str) -> BoxSession:
    """The run's own session. Raises WrongState for a run without one."""
    if not snapshot.session_id:
        raise WrongState(
            "this run has no box session: offer native tools in the agent's box policy", reason=Reason.TOOL_UNAVAILABLE
        )
    policy = snapshot.spec.box_policy
    return BoxSession(
        workspace_id=workspace_id,
        session_id=snapshot.session_id,
        profile=policy.profile,
        network=policy.network.mode,
        network_allow=policy.network.allow,
        read_only=policy.read_only,
        image=policy.image,
        mounts=tuple((one.source, one.target, one.writable) for one in policy.mounts),
        skills=snapshot.skills,
        conversation_id=conversation_id,
    )


async def _converse(
    call: Any,
    first: Any,
    next_of: Callable[[pb.RunBoxRequest], Any],
    frames: Frames,
    emit: Emit,
    answer: Callable[[Any], pb.RunBoxResponse],
) -> None:
    """Both directions at once, to the last frame of the box. Leaving ends the box's call, which kills a command."""

    writing = asyncio.Lock()

    async def tell(response: pb.RunBoxResponse, last: bool = False) -> None:
        # A stream has one writer at a time.
        async with writing:
            await emit(response, last)

    async def feed() -> None:
        async for frame in frames:
            request = next_of(frame)
            if not await send(call, request):
                return
            if request.WhichOneof("kind") == "stdin":
                await tell(pb.RunBoxResponse(taken_bytes=len(request.stdin)))
        # The caller says no more; what runs still may.
        await half_close(call)

    async def read() -> None:
        async for response in call:
            await tell(answer(response), response.WhichOneof("kind") == "exit")

    try:
        await send(call, first)
        await _both(feed, read)
    finally:
        call.cancel()


async def _both(feed: Callable[[], Awaitable[None]], read: Callable[[], Awaitable[None]]) -> None:
    """Until reading has ended; what feeding finds wrong ends it at once."""
    feeding, reading = asyncio.ensure_future(feed()), asyncio.ensure_future(read())
    try:
        await asyncio.wait({feeding, reading}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
        await reading
    finally:
        for one in (feeding, reading):
            one.cancel()
        await asyncio.gather(feeding, reading, return_exceptions=True)


def _place(target: Any, session: BoxSession) -> None:
    target.session_id, target.workspace_id = session.session_id, session.workspace_id
