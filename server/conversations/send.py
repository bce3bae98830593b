"""Saying something and hearing the answer, in one stream."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from portway.rpc.identity import Caller
from portway.server.events.accept import Acceptor
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.runs.feed import Feeds
from portway.server.runs.store import Runs
from portway.server.runs.types import Run
from portway.server.runs.watcher import Batch
from portway.server.transcript.store import Transcript
from portway.server.transcript.types import Order, PageQuery, Role, TranscriptItem

# The reply is among the last items of its conversation when its run has just ended.
_LOOK_BACK = 100
_END = 2**62


@dataclass(frozen=True, slots=True)
class Finished:
    """The run after its end, and what it said last; None where nothing was said."""

    run: Run
    reply: TranscriptItem | None


class Talk:
    """One message and its run."""

    def __init__(self, acceptor: Acceptor, feeds: Feeds, runs: Runs, transcript: Transcript) -> None:
        self._acceptor = acceptor
        self._feeds = feeds
        self._runs = runs
        self._transcript = transcript

    async def send(self, caller: Caller, submit: Submit) -> AsyncGenerator[Accepted | Batch | Finished, None]:
        """`Accepted` once it is on disk, what the run does, and `Finished`. No run: only `Accepted`.

        Who stops listening stops nothing else. Raises as `Acceptor.submit`.
        """
        accepted = await self._acceptor.submit(caller, submit)
        yield accepted
        if not accepted.run_id:
            return
        async with self._feeds.watch(caller.workspace_id, accepted.run_id) as watcher:
            async for batch in watcher:
                yield batch
        run = await self._runs.run(caller.workspace_id, accepted.run_id)
        yield Finished(run, await self._reply(run))

    async def _reply(self, run: Run) -> TranscriptItem | None:
        query = PageQuery(conversation_id=run.conversation_id, cursor=_END, limit=_LOOK_BACK, order=Order.BACKWARD)
        for item in await self._transcript.page(run.workspace_id, query):
            if item.run_id == run.run_id and item.role is not Role.USER:
                return item
        return None
