"""What belongs to the conversation: `host.history`, `host.events`, `host.knowledge`, `host.prompt`."""

from collections.abc import Sequence
from datetime import datetime

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.content import MessageRole
from portway.runtime.sdk.types.convert import Json, read, write_json
from portway.runtime.sdk.types.pulled import (
    EventDetail,
    EventPage,
    HistoryPage,
    KnowledgeHit,
    PromptFragment,
    TranscriptItem,
)
from portway.runtime.sdk.types.resources import KnowledgeBaseResource
from portway.v1 import run_pull_pb2 as pb


class History:
    """The transcript of the run's scope. Needs `history.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def page(
        self, *, before: str = "", after: str = "", limit: int = 50, forward: bool = False, artifacts: bool = True
    ) -> HistoryPage:
        """A page of at most 100 items, backwards from `before` (or the end) unless `forward`."""
        direction = pb.PAGE_DIRECTION_FORWARD if forward else pb.PAGE_DIRECTION_BACKWARD
        message = pb.PageHistoryRequest(
            before=before, after=after, limit=limit, direction=direction, include_artifacts=artifacts
        )
        return read(HistoryPage, await self._calls.ask("page_history", message))

    async def search(
        self,
        query: str,
        *,
        roles: Sequence[MessageRole] = (),
        kinds: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
        top_k: int = 10,
    ) -> tuple[TranscriptItem, ...]:
        """At most 100 items, best first."""
        message = pb.SearchHistoryRequest(query=query, kinds=kinds, top_k=top_k)
        message.roles.extend(role.value for role in roles)
        if start is not None:
            message.start_time.FromDatetime(start)
        if end is not None:
            message.end_time.FromDatetime(end)
        answer = await self._calls.ask("search_history", message)
        return tuple(read(TranscriptItem, item) for item in answer.items)


class Events:
    """The events of the run's conversation. Needs `events.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, event_id: str = "") -> EventDetail:
        """An event; the run's own if `event_id` is empty."""
        return read(EventDetail, await self._calls.ask("get_event", pb.RunnerServiceGetEventRequest(event_id=event_id)))

    async def page(self, *, types: Sequence[str] = (), before: str = "", limit: int = 50) -> EventPage:
        message = pb.PageEventsRequest(types=types, before=before, limit=limit)
        return read(EventPage, await self._calls.ask("page_events", message))


class Knowledge:
    """The knowledge bases of the run. Needs `knowledge_bases.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def bases(self) -> tuple[KnowledgeBaseResource, ...]:
        answer = await self._calls.ask("list_knowledge_bases", pb.RunnerServiceListKnowledgeBasesRequest())
        return tuple(read(KnowledgeBaseResource, one) for one in answer.knowledge_bases)

    async def retrieve(
        self, knowledge_base_ids: Sequence[str], query: str, *, top_k: int = 5, filters: Json | None = None
    ) -> tuple[KnowledgeHit, ...]:
        """At most 100 hits, best first."""
        message = pb.RetrieveKnowledgeRequest(knowledge_base_ids=knowledge_base_ids, query=query, top_k=top_k)
        if filters:
            write_json(filters, message.filters)
        answer = await self._calls.ask("retrieve_knowledge", message)
        return tuple(read(KnowledgeHit, hit) for hit in answer.hits)


class Prompt:
    """The instruction package. Needs `prompt`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self) -> tuple[PromptFragment, ...]:
        answer = await self._calls.ask("get_prompt", pb.GetPromptRequest())
        return tuple(read(PromptFragment, fragment) for fragment in answer.fragments)
