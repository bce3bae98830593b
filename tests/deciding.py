"""Approvals of runs and decisions of people, for tests."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2, run_agent_pb2, run_pb2, run_pull_pb2
from tests.waiting import until_told

PENDING = run_agent_pb2.APPROVAL_STATE_PENDING
APPROVED = run_agent_pb2.APPROVAL_STATE_APPROVED
DENIED = run_agent_pb2.APPROVAL_STATE_DENIED
EXPIRED = run_agent_pb2.APPROVAL_STATE_EXPIRED
WITHDRAWN = run_agent_pb2.APPROVAL_STATE_WITHDRAWN


def done(output: str) -> process_pb2.ExecOnceResponse:
    status = process_pb2.EXIT_STATUS_COMPLETED
    return process_pb2.ExecOnceResponse(stdout=output.encode(), exit=process_pb2.Exit(status=status, exit_code=0))


def execute(command: str, call_id: str = "") -> run_pull_pb2.RunnerServiceCallToolRequest:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name="exec", call_id=call_id)
    request.arguments["command"] = command
    return request


async def approvals(runs: Any, **which: Any) -> list[run_pb2.Approval]:
    with errors_by_meaning():
        answer = await runs.ListApprovals(run_pb2.ListApprovalsRequest(**which))
    return list(answer.approvals)


async def one_pending(runs: Any, count: int = 1) -> run_pb2.Approval:
    """The newest approval, once so many wait."""

    async def is_asked() -> bool:
        return len(await approvals(runs, pending_only=True)) >= count

    await until_told(is_asked)
    return (await approvals(runs, pending_only=True))[0]


async def one_pending_of(runs: Any, run_id: str) -> run_pb2.Approval:
    """What a run waits for, once it does."""

    async def is_asked() -> bool:
        return bool(await approvals(runs, run_id=run_id, pending_only=True))

    await until_told(is_asked)
    return (await approvals(runs, run_id=run_id, pending_only=True))[0]


async def decide(runs: Any, approval: run_pb2.Approval, approve: bool = True, **more: Any) -> run_pb2.Approval:
    given = {"approval_id": approval.approval_id, "digest": approval.digest, "approve": approve, **more}
    with errors_by_meaning():
        answer: run_pb2.DecideApprovalResponse = await runs.DecideApproval(run_pb2.DecideApprovalRequest(**given))
    return answer.approval


def command_of(approval: run_pb2.Approval) -> str:
    """The command line that it is for."""
    return str(MessageToDict(approval.details)["arguments"]["command"])
