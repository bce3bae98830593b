"""Everything that a run needs before it asks a model for the first time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from portway.rpc.errors import PortwayError
from portway.runtime.official.local_agent.asking import Asking
from portway.runtime.official.local_agent.context.compaction import Compaction
from portway.runtime.official.local_agent.context.knowledge import Knowledge
from portway.runtime.official.local_agent.context.prompt import instructions
from portway.runtime.official.local_agent.context.talk import Talk
from portway.runtime.official.local_agent.context.words import (
    about,
    event_message,
    is_group,
    is_said,
    message_of,
)
from portway.runtime.official.local_agent.settings import HistorySettings, ModelSettings
from portway.runtime.official.local_agent.tools.pending import answered_turns
from portway.runtime.sdk import HostApi, ImagePart, ModelMessage, Part, Progress, RunContext, RunFailure, text_part


class Beginning:
    """After `results`, `talk` is what the model is shown."""

    def __init__(
        self, ctx: RunContext, host: HostApi, model: ModelSettings, history: HistorySettings, asking: Asking
    ) -> None:
        self._ctx = ctx
        self._host = host
        self._model = model
        self._compaction = Compaction(ctx, host, history, asking, model.models[0])
        self.talk = Talk(())

    async def results(self, knowledge: Knowledge | None = None) -> AsyncIterator[Progress]:
        """Raises `RunFailure` where there is nothing to answer."""
        ctx, host = self._ctx, self._host
        prompt = instructions(ctx, self._model.prompt)
        turns, without = answered_turns(ctx)
        said = [] if turns else [await self._said()]
        async for progress in self._compaction.results(without):
            yield progress
        history = [await _with_readable_pictures(host, message) for message in self._compaction.messages]
        self.talk = Talk(prompt, history)
        if knowledge is not None and not turns and is_said(ctx):
            passages = await knowledge.before(ctx.input.text)
            said = [passages, *said] if passages else said
        for note in knowledge.notes if knowledge is not None else ():
            yield Progress(note[:1000])
        self.talk.go_on(turns)
        self.talk.add(*said)

    async def _said(self) -> ModelMessage:
        ctx = self._ctx
        if not is_said(ctx):
            return event_message(ctx)
        author = ctx.actor.name if is_group(ctx) else ""
        edited = ctx.event.type == "message.edited"
        said = await message_of(ctx.input, author, self._host, edited=edited)
        if not said.parts:
            raise RunFailure("runner.error", "the message is empty: there is nothing to answer")
        return said


async def steered(ctx: RunContext, host: HostApi) -> tuple[Sequence[ModelMessage], Sequence[str]]:
    """What people wrote meanwhile, and the events that it came with. What comes later becomes a run of its own."""
    messages, events = [], []
    for arrived in await host.steering.take():
        author = arrived.actor.name if is_group(ctx) else ""
        message = await message_of(arrived.input, author, host)
        if message.parts:
            messages.append(message)
        events.append(arrived.event_id)
    return messages, events


async def _with_readable_pictures(host: HostApi, message: ModelMessage) -> ModelMessage:
    """Pictures of the history may have expired: one that the host does not have any more would spoil the question."""
    if not any(isinstance(part.content, ImagePart) for part in message.parts):
        return message
    return replace(message, parts=tuple([await _readable(host, part) for part in message.parts]))


async def _readable(host: HostApi, part: Part) -> Part:
    if not isinstance(part.content, ImagePart):
        return part
    try:
        await host.artifacts.get(part.content.artifact.artifact_id)
    except PortwayError:
        return text_part(about(part.content.artifact, "image", part.content.caption) + " (it is not kept any more)\n")
    return part
