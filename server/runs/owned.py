"""Everything that a run, a conversation or the workspace holds now: what is left after the end shows here."""

from collections.abc import AsyncIterator

from portway.rpc.cursor import CursorCodec
from portway.server.deliveries.store import FIRST_PAGE as FIRST_DELIVERY
from portway.server.deliveries.store import Deliveries
from portway.server.deliveries.types import DeliveryFilter, DeliveryState
from portway.server.runs.live import LiveAttempts
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import Run, RunCursor, RunFilter, RunState
from portway.v1 import run_pb2

DEFAULT_PAGE = 50
MAX_ITEMS = 10_000
_OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)
_BATCH = 200


class Owned:
    """Runs, their attempts, tokens, sessions and calls under way, and deliveries that are not done."""

    def __init__(self, runs: Runs, deliveries: Deliveries, live: LiveAttempts, cursors: CursorCodec) -> None:
        self._runs = runs
        self._deliveries = deliveries
        self._live = live
        self._cursors = cursors

    async def page(self, workspace_id: str, request: run_pb2.ListOwnedRequest) -> run_pb2.ListOwnedResponse:
        """Raises NotFound (run), InvalidInput (page token)."""
        owner = request.WhichOneof("owner") or "workspace"
        name = getattr(request, owner) if owner != "workspace" else ""
        listing = f"owned/{workspace_id}/{owner}/{name}"
        start = int(self._cursors.read_page(request.page_token, listing)) if request.page_token else 0
        size = request.page_size or DEFAULT_PAGE
        items: list[run_pb2.OwnedItem] = []
        index = 0
        async for item in self._items(workspace_id, owner, name):
            if index >= start:
                items.append(item)
            index += 1
            if len(items) > size or index >= MAX_ITEMS:
                break
        response = run_pb2.ListOwnedResponse(items=items[:size])
        if len(items) > size:
            response.next_page_token = self._cursors.write_page(listing, str(start + size))
        return response

    async def _items(self, workspace_id: str, owner: str, name: str) -> AsyncIterator[run_pb2.OwnedItem]:
        session_id = name if owner == "session_id" else ""
        runs = self._open_runs(workspace_id, name if owner == "conversation_id" else "")
        if owner == "run_id":
            runs = self._one_run(workspace_id, name)
        async for run in runs:
            for item in self._of_run(run, session_id):
                yield item
        if owner != "session_id":
            which = DeliveryFilter(
                states=(DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.UNKNOWN),
                conversation_id=name if owner == "conversation_id" else "",
                run_id=name if owner == "run_id" else "",
            )
            for delivery in await self._deliveries.page(workspace_id, which, FIRST_DELIVERY, _BATCH):
                yield _item("delivery", delivery.delivery_id, delivery.run_id, delivery.state, delivery.create_time)

    async def _one_run(self, workspace_id: str, run_id: str) -> AsyncIterator[Run]:
        run = await self._runs.run(workspace_id, run_id)
        if not run.state.final:
            yield run

    async def _open_runs(self, workspace_id: str, conversation_id: str) -> AsyncIterator[Run]:
        after: RunCursor = FIRST_PAGE
        which = RunFilter(conversation_id=conversation_id, states=_OPEN)
        while page := await self._runs.page(workspace_id, which, after, _BATCH):
            for run in page:
                yield run
            after = RunCursor(page[-1].event_sequence, page[-1].run_id)

    def _of_run(self, run: Run, session_id: str) -> list[run_pb2.OwnedItem]:
        attempt = self._live.of_run(run.workspace_id, run.run_id)
        session = attempt.scope.snapshot.session_id if attempt else ""
        if session_id and session != session_id:
            return []
        items = [_item("run", run.run_id, run.conversation_id, run.state, run.create_time)]
        if attempt is None:
            return items
        number = str(attempt.scope.fence.attempt)
        items.append(_item("attempt", number, run.run_id, "live", run.start_time))
        items.append(_item("token", attempt.token.token_id, run.run_id, "live", run.start_time))
        if session:
            items.append(_item("session", session, run.run_id, "in use", run.start_time))
        if attempt.pipeline is not None:
            items += [
                _item("call", f"{name} {id_}", run.run_id, "under way", 0) for id_, name in attempt.pipeline.under_way
            ]
        return items


def _item(kind: str, item_id: str, owner_id: str, state: str, since: int) -> run_pb2.OwnedItem:
    item = run_pb2.OwnedItem(kind=kind, id=item_id, owner_id=owner_id, state=str(state))
    if since:
        item.create_time.FromMicroseconds(since)
    return item
