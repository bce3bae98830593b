"""ProcessService on the wire."""

from typing import Never

from portway.box.paging import Pager
from portway.box.processes.directory import ProcessDirectory
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


class ProcessServicer:
    """Translates; commands are `run`'s, managed processes the directory's."""

    def __init__(self, runner: CommandRunner, processes: ProcessDirectory, pages: Pager) -> None:
        self._runner = runner
        self._processes = processes
        self._pages = pages

    async def Exec(self, call: ExecCall) -> None:
        first = await call.read()
        if first is None or not first.HasField("start"):
            raise InvalidInput("the first frame is `start`", reason=Reason.UNEXPECTED_FRAME)
        start = first.start
        request = RunRequest(
            ref=session_ref(call.caller, start.workspace_id, start.session_id),
            command=command_from(start.command),
            request_id=start.request_id,
            output_file=start.output_file,
        )
        conversation = ExecConversation(call)
        async with self._runner.claimed(request) as claim:
            if claim.known is not None:
                return await conversation.replay(claim.known)
            async with self._runner.started(request, claim, wants_input=True) as command:
                ended = await conversation.run(command)
                claim.record(CommandResult(command.output(), ended))
        # After everything was given back: who has read the end may rely on it.
        await conversation.tell_end(ended)

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
