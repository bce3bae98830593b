"""A run asks for an approval itself: of what its runner, or a program that it drives, is about to do."""

import asyncio

from google.protobuf.json_format import MessageToDict

from portway.rpc.errors import Conflict, LimitExceeded, NotPermitted, PayloadTooLarge, PortwayError, Reason, WrongState
from portway.server.approvals.gate import ApprovalGate, Wanted
from portway.server.runner_calls.scope import RunScope
from portway.v1 import run_pull_pb2

MAX_REQUEST_BYTES = 64 * 1024
MAX_WAITING = 32
MAX_OF_A_RUN = 1_000
KIND = "request"


class ApprovalCalls:
    """RequestApproval."""

    def __init__(self, gate: ApprovalGate) -> None:
        self._gate = gate

    async def request_approval(
        self, run: RunScope, request: run_pull_pb2.RequestApprovalRequest
    ) -> run_pull_pb2.RequestApprovalResponse:
        """Answers when a person has allowed it; the same again with the same.

        Raises NotPermitted (not granted, or denied), Conflict (the id stands for something else), WrongState (nobody
        decided in time), LimitExceeded, PayloadTooLarge.
        """
        run.allow("approvals_request", "RequestApproval")
        body = request.SerializeToString(deterministic=True)
        known = run.asked_approvals.get(request.request_id)
        if known is None:
            _check(run, len(body))
            approval_id = await self._ask(run, request, body)
        elif known[0] != body:
            raise Conflict(
                f"the request_id {request.request_id!r} stands for something else in this run; use a new one",
                reason=Reason.SAME_KEY_OTHER_BODY,
            )
        else:
            approval_id = await asyncio.shield(known[1])
        return run_pull_pb2.RequestApprovalResponse(approval_id=approval_id)

    async def _ask(self, run: RunScope, request: run_pull_pb2.RequestApprovalRequest, body: bytes) -> str:
        decision: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        run.asked_approvals[request.request_id] = (body, decision)
        try:
            approval_id = await self._gate.ask(run, _wanted(request))
        except BaseException as error:
            if not isinstance(error, NotPermitted | WrongState):
                # Nobody decided: whoever waits for the same is told so, and may ask again.
                del run.asked_approvals[request.request_id]
            decision.set_exception(error if isinstance(error, PortwayError) else _given_up(request))
            decision.exception()
            raise
        decision.set_result(approval_id)
        return approval_id


def _check(run: RunScope, size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise PayloadTooLarge(
            f"what is to be approved has {size:,} bytes, and people can be shown {MAX_REQUEST_BYTES:,}: "
            "shorten `details` and put the digest of the whole into `content_digest`"
        )
    if len(run.asked_approvals) >= MAX_OF_A_RUN:
        raise LimitExceeded(f"a run asks for at most {MAX_OF_A_RUN:,} approvals")
    if sum(not one.done() for _, one in run.asked_approvals.values()) >= MAX_WAITING:
        raise LimitExceeded(f"{MAX_WAITING} approvals of this run wait already; ask again when one is decided")


def _wanted(request: run_pull_pb2.RequestApprovalRequest) -> Wanted:
    arguments: dict[str, object] = {"title": request.title, "details": MessageToDict(request.details)}
    if request.content_digest:
        arguments["content_digest"] = request.content_digest
    return Wanted(
        kind=KIND,
        name=request.subject,
        call_id=request.request_id,
        title=f"{request.subject}: {request.title}",
        arguments=arguments,
    )


def _given_up(request: run_pull_pb2.RequestApprovalRequest) -> WrongState:
    return WrongState(
        f"the request {request.request_id!r} was given up before anybody decided", reason=Reason.APPROVAL_STALE
    )
