"""What was said before, in the run's own conversation."""

from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import NotFound
from portway.server.events.store import NEWEST, EventLog
from portway.server.events.types import Event, EventFilter
from portway.server.events.wire import facts_of
from portway.server.runner_calls.scope import RunScope
from portway.server.snapshot.context_parts import Place, event_of, input_of
from portway.server.snapshot.permissions import HistoryScope
from portway.server.transcript.store import Transcript
from portway.server.transcript.types import Order, PageQuery, SearchQuery, TranscriptItem
from portway.server.transcript.wire import item_cursor, item_message, roles_of, transcript_stream
from portway.v1 import event_pb2, run_pull_pb2

DEFAULT_PAGE = 50
DEFAULT_HITS = 10
END = 2**62


class HistoryCalls:
    """PageHistory, SearchHistory, GetEvent, PageEvents."""

    def __init__(self, transcript: Transcript, events: EventLog, cursors: CursorCodec) -> None:
        self._transcript = transcript
        self._events = events
        self._cursors = cursors

    async def page_history(
        self, run: RunScope, request: run_pull_pb2.PageHistoryRequest
    ) -> run_pull_pb2.PageHistoryResponse:
        run.allow("history_page", "PageHistory")
        before = self._sequence(run, request.before, "before") if request.before else END
        after = self._sequence(run, request.after, "after") if request.after else 0
        forward = request.direction == run_pull_pb2.PAGE_DIRECTION_FORWARD
        limit = request.limit or DEFAULT_PAGE
        query = PageQuery(
            conversation_id=run.conversation_id,
            cursor=after if forward else before,
            limit=limit + 1,
            order=Order.FORWARD if forward else Order.BACKWARD,
            thread_id=_thread(run),
        )
        found = await self._transcript.page(run.workspace_id, query)
        within = [item for item in found if after < item.sequence < before]
        page = within[:limit] if forward else within[:limit][::-1]
        response = run_pull_pb2.PageHistoryResponse(
            items=[
                item_message(item, run.workspace_id, self._cursors, artifacts=request.include_artifacts)
                for item in page
            ],
            has_more=len(within) > limit,
            after_cursor=self._cursor(run, page[-1]) if page else request.after,
        )
        older = page and (page[0].sequence > 1 if forward else len(within) > limit)
        if older:
            response.before_cursor = self._cursor(run, page[0])
        return response

    async def search_history(
        self, run: RunScope, request: run_pull_pb2.SearchHistoryRequest
    ) -> run_pull_pb2.SearchHistoryResponse:
        run.allow("history_search", "SearchHistory")
        everywhere = run.snapshot.permissions.history_scope is HistoryScope.WORKSPACE
        query = SearchQuery(
            text=request.query,
            limit=request.top_k or DEFAULT_HITS,
            conversation_id="" if everywhere else run.conversation_id,
            thread_id=_thread(run),
            roles=roles_of(list(request.roles)),
            kinds=frozenset(request.kinds),
            after_time=request.start_time.ToMicroseconds() - 1 if request.HasField("start_time") else 0,
            before_time=request.end_time.ToMicroseconds() if request.HasField("end_time") else END,
        )
        found = await self._transcript.search(run.workspace_id, query)
        return run_pull_pb2.SearchHistoryResponse(
            items=[item_message(item, run.workspace_id, self._cursors) for item in found]
        )

    async def get_event(
        self, run: RunScope, request: run_pull_pb2.RunnerServiceGetEventRequest
    ) -> run_pull_pb2.RunnerServiceGetEventResponse:
        run.allow("events_get", "GetEvent")
        if not request.event_id or request.event_id == run.event_id:
            return run_pull_pb2.RunnerServiceGetEventResponse(event=run.context.event, input=run.context.input)
        try:
            event = await self._events.event(run.workspace_id, request.event_id)
        except NotFound:
            raise run.missing("GetEvent", "event", request.event_id) from None
        if event.conversation_id != run.conversation_id:
            raise run.missing("GetEvent", "event", request.event_id)
        message = event_pb2.Event.FromString(event.payload)
        return run_pull_pb2.RunnerServiceGetEventResponse(
            event=event_of(message, _place(event)), input=input_of(message, facts_of(message, run.workspace_id))
        )

    async def page_events(
        self, run: RunScope, request: run_pull_pb2.PageEventsRequest
    ) -> run_pull_pb2.PageEventsResponse:
        run.allow("events_page", "PageEvents")
        listing = f"events/{run.workspace_id}/{run.conversation_id}"
        before = NEWEST
        if request.before:
            before = int(self._cursors.read_page(request.before, listing, field="before"))
        limit = request.limit or DEFAULT_PAGE
        which = EventFilter(conversation_id=run.conversation_id, types=tuple(request.types))
        found = await self._events.page(run.workspace_id, which, before, limit + 1)
        page = found[:limit][::-1]
        return run_pull_pb2.PageEventsResponse(
            events=[event_of(event_pb2.Event.FromString(event.payload), _place(event)) for event in page],
            before_cursor=self._cursors.write_page(listing, str(page[0].sequence)) if len(found) > limit else "",
        )

    def _sequence(self, run: RunScope, cursor: str, field: str) -> int:
        stream = transcript_stream(run.workspace_id, run.conversation_id)
        return self._cursors.read(cursor, stream, field=field).sequence

    def _cursor(self, run: RunScope, item: TranscriptItem) -> str:
        return item_cursor(self._cursors, run.workspace_id, run.conversation_id, item.sequence)


def _thread(run: RunScope) -> str:
    return run.snapshot.thread_id if run.snapshot.permissions.history_scope is HistoryScope.THREAD else ""


def _place(event: Event) -> Place:
    return Place(event.event_id, event.sequence, event.accept_time, 0)
