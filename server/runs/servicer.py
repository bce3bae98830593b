"""RunService."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.interactions.people import People
from portway.server.ownership.pages import Owned
from portway.server.runs.cancel import Canceller
from portway.server.runs.explain import RunExplainer
from portway.server.runs.feed import Feeds
from portway.server.runs.journal import CURSOR_EPOCH, run_stream
from portway.server.runs.receipt import receipt_message
from portway.server.runs.steer import Steering
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import RunCursor, RunFilter
from portway.server.runs.watcher import Gap, Overflow
from portway.server.runs.wire import run_message, states_of
from portway.v1 import run_pb2 as pb
from portway.v1 import stream_pb2

DEFAULT_PAGE = 50

_Call = Call[Never, Never]


class RunServicer:
    """Tells of runs and steers them."""

    def __init__(
        self,
        *,
        runs: Runs,
        feeds: Feeds,
        cursors: CursorCodec,
        canceller: Canceller,
        steering: Steering,
        explainer: RunExplainer,
        owned: Owned,
        people: People,
    ) -> None:
        self._runs = runs
        self._feeds = feeds
        self._cursors = cursors
        self._canceller = canceller
        self._steering = steering
        self._explainer = explainer
        self._owned = owned
        self._people = people

    async def GetRun(self, request: pb.GetRunRequest, call: _Call) -> pb.GetRunResponse:
        run = await self._runs.run(call.caller.workspace_id, request.run_id)
        return pb.GetRunResponse(run=run_message(run, self._cursors))

    async def ListRuns(self, request: pb.ListRunsRequest, call: _Call) -> pb.ListRunsResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"runs/{workspace_id}/{request.conversation_id}/{request.agent_id}/{sorted(request.states)}"
        after = self._after(request.page_token, listing)
        which = RunFilter(
            conversation_id=request.conversation_id,
            agent_id=request.agent_id,
            states=states_of(list(request.states)),
        )
        found = await self._runs.page(workspace_id, which, after, size + 1)
        response = pb.ListRunsResponse(runs=[run_message(run, self._cursors) for run in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            response.next_page_token = self._cursors.write_page(listing, f"{last.event_sequence} {last.run_id}")
        return response

    async def WatchRun(self, request: pb.WatchRunRequest, call: Call[None, pb.WatchRunResponse]) -> None:
        workspace_id, run_id = call.caller.workspace_id, request.run_id
        after = request.after_sequence
        if request.after_cursor:
            after = self._cursors.read(
                request.after_cursor, run_stream(workspace_id, run_id), field="after_cursor"
            ).sequence
        overflow = Overflow.RESET if request.overflow == stream_pb2.OVERFLOW_RESET else Overflow.COALESCE
        watching = self._feeds.watch(
            workspace_id, run_id, after, committed_only=request.committed_only, overflow=overflow
        )
        async with watching as watcher:
            async for batch in watcher:
                gap = self._gap(workspace_id, run_id, batch.gap) if batch.gap else b""
                await call.write_bytes(batch.watch_response(gap))

    async def CancelRun(self, request: pb.CancelRunRequest, call: _Call) -> pb.CancelRunResponse:
        receipt = await self._canceller.cancel(call.caller.workspace_id, request.run_id, request.reason)
        return pb.CancelRunResponse(receipt=receipt_message(receipt), run=run_message(receipt.run, self._cursors))

    async def SteerRun(self, request: pb.SteerRunRequest, call: _Call) -> pb.SteerRunResponse:
        return pb.SteerRunResponse(steering_id=await self._steering.steer(call.caller, request))

    async def SubmitInteraction(
        self, request: pb.SubmitInteractionRequest, call: _Call
    ) -> pb.SubmitInteractionResponse:
        return await self._people.submit(call.caller, request, call.trace_id)

    async def ListInteractions(self, request: pb.ListInteractionsRequest, call: _Call) -> pb.ListInteractionsResponse:
        return await self._people.interactions(call.caller.workspace_id, request)

    async def DecideApproval(self, request: pb.DecideApprovalRequest, call: _Call) -> pb.DecideApprovalResponse:
        return await self._people.decide(call.caller, request)

    async def ListApprovals(self, request: pb.ListApprovalsRequest, call: _Call) -> pb.ListApprovalsResponse:
        return await self._people.approvals(call.caller.workspace_id, request)

    async def ExplainRun(self, request: pb.ExplainRunRequest, call: _Call) -> pb.ExplainRunResponse:
        return await self._explainer.explain(call.caller.workspace_id, request.run_id)

    async def ListOwned(self, request: pb.ListOwnedRequest, call: _Call) -> pb.ListOwnedResponse:
        return await self._owned.page(call.caller.workspace_id, request)

    def _after(self, token: str, listing: str) -> RunCursor:
        if not token:
            return FIRST_PAGE
        sequence, _, run_id = self._cursors.read_page(token, listing).partition(" ")
        return RunCursor(int(sequence), run_id)

    def _gap(self, workspace_id: str, run_id: str, gap: Gap) -> bytes:
        cursor = self._cursors.write(run_stream(workspace_id, run_id), Cursor(CURSOR_EPOCH, gap.resume_sequence))
        return stream_pb2.StreamGap(
            reason=stream_pb2.GAP_REASON_EXPIRED if gap.expired else stream_pb2.GAP_REASON_OVERFLOW,
            resume_cursor=cursor,
            missing_count=gap.missing,
        ).SerializeToString()
