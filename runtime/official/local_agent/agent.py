"""The agent that comes with Portway: a model, its tools, and the history of the conversation."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from portway.rpc.errors import PortwayError
from portway.runtime.official.local_agent.history import pull_history
from portway.runtime.official.local_agent.settings import Settings, read_settings
from portway.runtime.official.local_agent.tool_calls import ToolRound
from portway.runtime.official.local_agent.words import is_group, is_message, message_of, surroundings
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    ModelAnswer,
    ModelFallback,
    ModelMessage,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelTool,
    Progress,
    ReasoningDelta,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
    TextDelta,
    Usage,
    add_usage,
)

# All that a run says is one message, however many rounds it takes.
MESSAGE_KEY = "answer"
TOO_LONG = "model.context_length"
SHORTENINGS = 3
_PASSED_ON = (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)


class LocalAgent(AgentRunner):
    """Asks the model, calls what it wants called, and asks again, until it has nothing more to call."""

    def __init__(self) -> None:
        self._said = ""
        self._usage: list[Usage] = []
        self._answer = ModelAnswer()

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx)
        talk = await _begin(ctx, host, settings)
        finish = FinishReason.STOP
        for number in range(1, settings.max_rounds + 2):
            may_call = number <= settings.max_rounds
            async for result in self._ask(host, settings, talk, may_call=may_call):
                yield result
            calls = self._answer.message.tool_calls if may_call else ()
            if not calls:
                finish = _finish(self._answer, may_call=may_call)
                break
            talk.add(self._answer.message)
            turn = ToolRound(host, settings, number, calls)
            async for told in turn.results():
                yield told
            talk.add(*turn.messages())
            talk.add(*await _steering(ctx, host, settings))
        if self._said:
            yield MessageCompleted.of_text(self._said, message_key=MESSAGE_KEY)
        yield RunCompleted(finish, usage=add_usage(self._usage))

    async def _ask(
        self, host: HostApi, settings: Settings, talk: "_Talk", *, may_call: bool
    ) -> AsyncIterator[RunResult]:
        """One answer of the model, streamed. History that proves too long is shortened, while nothing was said yet."""
        for shortening in range(SHORTENINGS + 1):
            said_before = self._said
            try:
                async for result in self._stream(host, _request(settings, talk, may_call=may_call)):
                    yield result
                return
            except PortwayError as error:
                too_long = str(error.reason) == TOO_LONG and self._said == said_before
                if not too_long or shortening == SHORTENINGS or not talk.shorten():
                    raise
            yield Progress("the history was too long for the model; trying with less of it")

    async def _stream(self, host: HostApi, request: ModelRequest) -> AsyncIterator[RunResult]:
        begun = False
        self._answer = ModelAnswer()
        async for event in host.models.stream(request):
            match event:
                case ModelText(text):
                    if not begun and self._said:
                        text = f"\n\n{text}"
                    begun = True
                    self._said += text
                    yield TextDelta(text, MESSAGE_KEY)
                case ModelReasoning(reasoning):
                    yield ReasoningDelta(reasoning, MESSAGE_KEY)
                case ModelFallback(model_id, error):
                    yield Progress(f"the model {model_id} failed ({error.code}); asking the next one")
                case ModelAnswer():
                    self._answer = event
                    self._usage.append(replace(event.usage, model_id=event.usage.model_id or event.model_id))
        if self._answer.message.text and not begun:
            # A model that does not stream says everything in its answer.
            yield TextDelta(self._answer.message.text, MESSAGE_KEY)
            self._said += self._answer.message.text


class _Talk:
    """What the model is shown: instructions, history, and this run."""

    def __init__(self, prompt: Sequence[ModelMessage], history: Sequence[ModelMessage]) -> None:
        self._prompt = tuple(prompt)
        self._history = tuple(history)
        self._now: list[ModelMessage] = []

    def add(self, *messages: ModelMessage) -> None:
        self._now.extend(messages)

    def shorten(self) -> bool:
        """Forgets the older half of the history; whether there was any."""
        had = bool(self._history)
        self._history = self._history[(len(self._history) + 1) // 2 :]
        return had

    def messages(self) -> tuple[ModelMessage, ...]:
        return (*self._prompt, *self._history, *self._now)


async def _begin(ctx: RunContext, host: HostApi, settings: Settings) -> _Talk:
    prompt = list(settings.prompt)
    if about := surroundings(ctx):
        prompt.append(ModelMessage.system(about))
    talk = _Talk(prompt, await pull_history(ctx, host, settings.history_tokens))
    author = ctx.actor.name if is_group(ctx) else ""
    said = await message_of(ctx.input, author, host, vision=settings.model.vision)
    if said.parts:
        talk.add(said)
    elif is_message(ctx):
        raise RunFailure("runner.error", "the message is empty: there is nothing to answer")
    return talk


async def _steering(ctx: RunContext, host: HostApi, settings: Settings) -> list[ModelMessage]:
    """What people wrote while the tools ran; what comes later than the last round becomes a run of its own."""
    messages = []
    for arrived in await host.steering.take():
        author = arrived.actor.name if is_group(ctx) else ""
        messages.append(await message_of(arrived.input, author, host, vision=settings.model.vision))
    return messages


def _request(settings: Settings, talk: _Talk, *, may_call: bool) -> ModelRequest:
    tools = tuple(ModelTool(tool.name, tool.description, tool.parameters) for tool in settings.tools)
    return ModelRequest(
        model_id=settings.model.model_id,
        fallback_model_ids=tuple(settings.fallbacks),
        messages=talk.messages(),
        tools=tools,
        tool_choice="" if may_call or not tools else "none",
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
    )


def _finish(answer: ModelAnswer, *, may_call: bool) -> FinishReason:
    if not may_call:
        return FinishReason.TOOL_LIMIT
    return answer.finish_reason if answer.finish_reason in _PASSED_ON else FinishReason.STOP
