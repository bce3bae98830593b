"""The conversation that a service keeps for a person here: found again, and begun anew where the service forgot it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from portway.runtime.sdk.service.failures import ServiceFailure
from portway.runtime.sdk.service.memory import Memory
from portway.runtime.sdk.types.results import RunResult

Ask = Callable[[str], AsyncGenerator[RunResult, None]]


class Conversation:
    """Its id at the service is in the conversation's state here. `forgotten` knows how the service says that it has
    none of that id."""

    def __init__(self, memory: Memory, forgotten: Callable[[ServiceFailure], bool]) -> None:
        self._memory = memory
        self._forgotten = forgotten

    async def results(self, ask: Ask) -> AsyncGenerator[RunResult, None]:
        """What `ask` says, given the id (empty for a new one). It is asked once more, without an id, where the service
        refused because it forgot: then nothing was done, and nothing was said."""
        known = await self._memory.recall()
        conversation_id = known if isinstance(known, str) else ""
        spoken = False
        try:
            async with aclosing(ask(conversation_id)) as results:
                async for result in results:
                    spoken = True
                    yield result
            return
        except ServiceFailure as failure:
            if not conversation_id or spoken or not self._forgotten(failure):
                raise
        await self._memory.forget()
        async with aclosing(ask("")) as results:
            async for result in results:
                yield result

    async def keep(self, conversation_id: str) -> None:
        """Remembers an id that the service named; an empty one says nothing."""
        if conversation_id:
            await self._memory.keep(conversation_id)
