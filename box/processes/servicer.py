"""ProcessService on the wire."""

from typing import Never

from portway.box.paging import Pager
from portway.box.processes.directory import ProcessDirectory
from portway.box.processes.lingering.command import LingeringCommand
from portway.box.processes.lingering.conversation import FROM_THE_START, FollowConversation, Replay, offsets_of
from portway.box.processes.lingering.directory import LingeringCommands
from portway.box.processes.run import CommandRunner, RunRequest
from portway.box.processes.streams import AttachCall, AttachConversation, ExecCall, ExecConversation
from portway.box.processes.types import CommandResult
from portway.box.processes.wire import POLICY_OF, command_from, process_to, result_to
from portway.box.sessions.servicer import session_ref
from portway.box.sessions.wire import seconds_of
from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput, Reason
from portway.v1 import process_pb2 as pb

DEFAULT_PAGE = 50
DEFAULT_GRACE_SECONDS, LONGEST_GRACE_SECONDS = 5.0, 60.0
LONGEST_LINGER_SECONDS = 600.0


class ProcessServicer:
    """Translates; commands are `run`'s, managed processes the directory's."""

    def __init__(
        self, runner: CommandRunner, lingering: LingeringCommands, processes: ProcessDirectory, pages: Pager
    ) -> None:
        self._runner = runner
        self._lingering = lingering
        self._processes = processes
        self._pages = pages

    async def Exec(self, call: ExecCall) -> None:
        first = await call.read()
        match first.WhichOneof("kind") if first is not None else None:
            case "start" if first is not None and first.start.HasField("linger"):
                await self._exec_that_lingers(first.start, call)
            case "start" if first is not None:
                await self._exec(first.start, call)
            case "resume" if first is not None:
                ref = session_ref(call.caller, first.resume.workspace_id, first.resume.session_id)
                known = self._lingering.find(ref, first.resume.request_id, call.caller.role)
                await conversation_with(known, call).run(offsets_of(first.resume))
            case _:
                raise InvalidInput("the first frame is `start` or `resume`", reason=Reason.UNEXPECTED_FRAME)

    async def _exec(self, start: pb.ExecStart, call: ExecCall) -> None:
        request = _request(start, call)
        conversation = ExecConversation(call)
        async with self._runner.claimed(request) as claim:
            if claim.known is not None:
                return await Replay(call, claim.known).run(FROM_THE_START)
            async with self._runner.started(request, claim, wants_input=True) as command:
                result = command.result(await conversation.run(command))
                claim.record(result)
        # After everything was given back: who has read the end may rely on it.
        await conversation.tell_end(result)

    async def _exec_that_lingers(self, start: pb.ExecStart, call: ExecCall) -> None:
        seconds = seconds_of(start.linger, "start.linger")
        if seconds > LONGEST_LINGER_SECONDS:
            raise InvalidInput.field("start.linger", f"is at most {LONGEST_LINGER_SECONDS:.0f} s")
        if seconds == 0:
            return await self._exec(start, call)
        if not start.request_id:
            raise InvalidInput.field("start.request_id", "is needed with `linger`, to come back by")
        begun = await self._lingering.start(_request(start, call), seconds, holds=start.hold_output)
        await conversation_with(begun, call).run(FROM_THE_START)

    async def ExecOnce(self, request: pb.ExecOnceRequest, call: Call[Never, Never]) -> pb.ExecOnceResponse:
        result = await self._runner.once(
            RunRequest(
                ref=session_ref(call.caller, request.workspace_id, request.session_id),
                command=command_from(request.command),
                request_id=request.request_id,
                stdin=request.stdin,
                output_file=request.output_file,
                output_limit=request.output_limit,
                reconcile=request.reconcile,
                role=call.caller.role,
            )
        )
        return result_to(result)

    async def StartProcess(self, request: pb.StartProcessRequest, call: Call[Never, Never]) -> pb.StartProcessResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        policy = POLICY_OF[request.restart_policy]
        process, existed = await self._processes.start(
            ref, request.process_id, command_from(request.command), policy, hold_output=request.hold_output
        )
        return pb.StartProcessResponse(process=process_to(process), existed=existed)

    async def GetProcess(self, request: pb.GetProcessRequest, call: Call[Never, Never]) -> pb.GetProcessResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        process = self._processes.get(ref, request.process_id)
        return pb.GetProcessResponse(process=process_to(process.describe()))

    async def ListProcesses(
        self, request: pb.ListProcessesRequest, call: Call[Never, Never]
    ) -> pb.ListProcessesResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        page, token = self._pages.page(
            self._processes.list(ref),
            lambda process: (process.process_id,),
            f"processes/{ref}",
            request.page_token,
            request.page_size or DEFAULT_PAGE,
        )
        return pb.ListProcessesResponse(processes=[process_to(process) for process in page], next_page_token=token)

    async def StopProcess(self, request: pb.StopProcessRequest, call: Call[Never, Never]) -> pb.StopProcessResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        grace = seconds_of(request.grace, "grace") if request.HasField("grace") else DEFAULT_GRACE_SECONDS
        if grace > LONGEST_GRACE_SECONDS:
            raise InvalidInput.field("grace", f"is at most {LONGEST_GRACE_SECONDS:.0f} s")
        return pb.StopProcessResponse(process=process_to(await self._processes.stop(ref, request.process_id, grace)))

    async def AttachProcess(self, call: AttachCall) -> None:
        first = await call.read()
        if first is None or not first.HasField("attach"):
            raise InvalidInput("the first frame is `attach`", reason=Reason.UNEXPECTED_FRAME)
        start = first.attach
        ref = session_ref(call.caller, start.workspace_id, start.session_id)
        process = self._processes.get(ref, start.process_id)
        attachment = process.attach(start.stdout_offset, start.stderr_offset, hold=start.hold_output)
        await AttachConversation(call, process).run(attachment)


def conversation_with(known: LingeringCommand | CommandResult, call: ExecCall) -> FollowConversation | Replay:
    return Replay(call, known) if isinstance(known, CommandResult) else FollowConversation(call, known)


def _request(start: pb.ExecStart, call: ExecCall) -> RunRequest:
    return RunRequest(
        ref=session_ref(call.caller, start.workspace_id, start.session_id),
        command=command_from(start.command),
        request_id=start.request_id,
        output_file=start.output_file,
        role=call.caller.role,
    )
