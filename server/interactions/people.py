"""What people decide, as RunService serves it: questions and approvals."""

from portway.rpc.cursor import CursorCodec
from portway.rpc.identity import Caller
from portway.server.approvals.decide import Decisions
from portway.server.approvals.store import FIRST_PAGE as FIRST_APPROVAL
from portway.server.approvals.store import Approvals
from portway.server.approvals.types import ApprovalFilter
from portway.server.approvals.wire import approval_message
from portway.server.interactions.answer import Answers
from portway.server.interactions.store import FIRST_PAGE, Interactions
from portway.server.interactions.types import InteractionFilter
from portway.server.interactions.wire import record_message
from portway.v1 import run_pb2 as pb

DEFAULT_PAGE = 50


class People:
    """Answers and decisions of people, and lists of what waits for them."""

    def __init__(
        self,
        answers: Answers,
        decisions: Decisions,
        interactions: Interactions,
        approvals: Approvals,
        cursors: CursorCodec,
    ) -> None:
        self._answers = answers
        self._decisions = decisions
        self._interactions = interactions
        self._approvals = approvals
        self._cursors = cursors

    async def submit(
        self, caller: Caller, request: pb.SubmitInteractionRequest, trace_id: str
    ) -> pb.SubmitInteractionResponse:
        """Raises as `Answers.submit`."""
        accepted = await self._answers.of_call(caller, request.answer, request.request_id, trace_id)
        return pb.SubmitInteractionResponse(
            event_id=accepted.event_id, run_id=accepted.run_id, duplicate=accepted.duplicate
        )

    async def decide(self, caller: Caller, request: pb.DecideApprovalRequest) -> pb.DecideApprovalResponse:
        """Raises as `Decisions.decide`."""
        decided = await self._decisions.decide(
            caller, request.approval_id, approve=request.approve, digest=request.digest, note=request.note
        )
        return pb.DecideApprovalResponse(approval=approval_message(decided))

    async def interactions(self, workspace_id: str, request: pb.ListInteractionsRequest) -> pb.ListInteractionsResponse:
        """Raises InvalidInput (page token)."""
        which = InteractionFilter(
            run_id=request.run_id, conversation_id=request.conversation_id, open_only=request.open_only
        )
        listing = f"interactions/{workspace_id}/{which}"
        size = request.page_size or DEFAULT_PAGE
        after = self._after(request.page_token, listing) if request.page_token else FIRST_PAGE
        found = await self._interactions.page(workspace_id, which, after, size + 1)
        response = pb.ListInteractionsResponse(interactions=[record_message(one) for one in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            response.next_page_token = self._cursors.write_page(listing, f"{last.create_time} {last.run_id}")
        return response

    async def approvals(self, workspace_id: str, request: pb.ListApprovalsRequest) -> pb.ListApprovalsResponse:
        """Raises InvalidInput (page token)."""
        which = ApprovalFilter(run_id=request.run_id, pending_only=request.pending_only)
        listing = f"approvals/{workspace_id}/{which}"
        size = request.page_size or DEFAULT_PAGE
        after = self._after(request.page_token, listing) if request.page_token else FIRST_APPROVAL
        found = await self._approvals.page(workspace_id, which, after, size + 1)
        response = pb.ListApprovalsResponse(approvals=[approval_message(one) for one in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            response.next_page_token = self._cursors.write_page(listing, f"{last.create_time} {last.approval_id}")
        return response

    def _after(self, token: str, listing: str) -> tuple[int, str]:
        time, _, name = self._cursors.read_page(token, listing).partition(" ")
        return int(time), name
