"""SpendingService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.agents.wire import budget_message
from portway.server.spending.report import SpendingReport
from portway.server.spending.types import Group, Level, Spent, exhausted_by
from portway.v1 import spending_pb2 as pb

DEFAULT_PAGE = 50
_GROUPS = {
    pb.SPENDING_GROUP_UNSPECIFIED: Group.AGENT,
    pb.SPENDING_GROUP_AGENT: Group.AGENT,
    pb.SPENDING_GROUP_CONVERSATION: Group.CONVERSATION,
    pb.SPENDING_GROUP_MODEL: Group.MODEL,
    pb.SPENDING_GROUP_DAY: Group.DAY,
}
_LEVELS = {"agent_id": Level.AGENT, "conversation_id": Level.CONVERSATION, "run_id": Level.RUN}


class SpendingServicer:
    def __init__(self, report: SpendingReport, cursors: CursorCodec) -> None:
        self._report = report
        self._cursors = cursors

    async def GetSpending(self, request: pb.GetSpendingRequest, call: Call[Never, Never]) -> pb.GetSpendingResponse:
        workspace_id, name = call.caller.workspace_id, request.WhichOneof("subject")
        level = _LEVELS[name] if name else Level.WORKSPACE
        subject_id = getattr(request, name) if name else workspace_id
        found = await self._report.statement(workspace_id, level, subject_id, request.month)
        response = pb.GetSpendingResponse(
            spending=_message(found.spent),
            budget=budget_message(found.budget),
            exhausted=exhausted_by(found.budget, found.spent.amounts),
        )
        if found.month is not None:
            response.start_time.FromMicroseconds(found.month.start)
            response.end_time.FromMicroseconds(found.month.end)
        return response

    async def ListSpending(self, request: pb.ListSpendingRequest, call: Call[Never, Never]) -> pb.ListSpendingResponse:
        workspace_id, group, size = call.caller.workspace_id, _GROUPS[request.group], request.page_size or DEFAULT_PAGE
        within = (request.agent_id, request.conversation_id)
        listing = "\0".join(("spending", workspace_id, group, request.month, *within))
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else None
        found = await self._report.shares(workspace_id, group, request.month, within, after, size)
        return pb.ListSpendingResponse(
            shares=[pb.SpendingShare(name=one.name, spending=_message(one.spent)) for one in found],
            next_page_token=self._cursors.write_page(listing, found[-1].name) if len(found) == size else "",
        )


def _message(spent: Spent) -> pb.Spending:
    amounts = spent.amounts
    message = pb.Spending(
        cost_micros=amounts.cost_micros,
        currency=spent.currency,
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        calls=amounts.calls,
        bytes=amounts.bytes,
        unpriced_calls=amounts.unpriced_calls,
    )
    message.time.FromMicroseconds(amounts.time_micros)
    return message
