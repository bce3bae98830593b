"""Asking models: the first one that answers, streamed, and what each of them used."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace

from portway.rpc.errors import PortwayError, Reason, Unavailable
from portway.runtime.official.local_agent.bounded import bounded
from portway.runtime.official.local_agent.context.talk import Talk
from portway.runtime.official.local_agent.purse import Purse
from portway.runtime.official.local_agent.settings import ModelSettings
from portway.runtime.official.local_agent.speech import Speech
from portway.runtime.sdk import (
    FinishReason,
    HostApi,
    ModelAnswer,
    ModelMessage,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelTool,
    Progress,
    ReasoningDelta,
    RunResult,
    TextDelta,
    ToolResource,
)

# All that a run says is one message, however many rounds it takes. It must fit into one result.
MESSAGE_KEY = "answer"
MAX_SAID_BYTES = 768 * 1024
MAX_REASONING = 1024 * 1024
PIECE = 64 * 1024
SHORTENINGS = 12
BAD_OUTPUT = "model.bad_output"
# Another model may do better. Not so where the question itself is refused, or where nobody pays for it.
FALLS_BACK = frozenset(
    {
        "model.rate_limited",
        "model.unavailable",
        "model.timeout",
        BAD_OUTPUT,
        "model.auth",
        "model.not_found",
        "model.disabled",
        Reason.KILL_SWITCH,
        Reason.UNAVAILABLE,
    }
)
PASSED_ON = (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
TOO_LONG = frozenset({"model.context_length", Reason.PAYLOAD_TOO_LARGE})


class Asking:
    """One run's questions. A model that was passed over is not asked again in this run."""

    def __init__(self, host: HostApi, settings: ModelSettings, purse: Purse) -> None:
        self._host = host
        self._settings = settings
        self._models = list(settings.models)
        self._purse = purse
        self._asked = 0
        # Everything said so far, what of it in this answer, and whether more was cut off.
        self.said = ""
        self.said_bytes = 0
        self._said_now = ""
        self._thought = 0
        self.is_cut = False
        self.answer = ModelAnswer()
        self.message = ModelMessage()
        self.left_out = 0

    async def ask(self, talk: Talk, tools: Sequence[ToolResource], *, may_call: bool) -> AsyncIterator[RunResult]:
        """One answer, streamed; afterwards `answer`, and `message` for the talk. An empty one is asked for again, once.

        Raises the failure of the last model that was asked, or of the first one that said something.
        """
        for may_repeat in (True, False):
            self._said_now, self._thought = "", 0
            async for result in self._first_that_answers(talk, tools, may_call=may_call):
                yield result
            self.message, self.left_out = bounded(self.answer, self._said_now, self._asked)
            if not self._is_empty() or not may_repeat:
                return
            yield Progress("the model said nothing; asking it once more")

    async def invoke(self, messages: Sequence[ModelMessage], longest: int) -> str:
        """A whole answer as text, beside the talk. Raises as `ask`."""
        while True:
            model = self._models[0]
            request = ModelRequest(model_id=model.model_id, messages=tuple(messages), max_output_tokens=longest)
            try:
                answer = await self._host.models.invoke(request)
            except PortwayError as error:
                if not self._falls_back(error, talks_of_calls=False):
                    raise
                continue
            self._note(answer, 0)
            speech = Speech()
            pieces = [*speech.feed(answer.message.text), *speech.rest()]
            return "".join(text for thought, text in pieces if not thought).strip()

    async def _first_that_answers(
        self, talk: Talk, tools: Sequence[ToolResource], *, may_call: bool
    ) -> AsyncIterator[RunResult]:
        while True:
            failed = self._models[0]
            try:
                async for result in self._shortened(talk, tools, may_call=may_call):
                    yield result
                return
            except PortwayError as error:
                # What a person has read cannot be taken back.
                if self._said_now or not self._falls_back(error, talks_of_calls=talk.has_calls):
                    raise
                code, taken = error.reason, self._models[0].model_id
            yield Progress(f"the model {failed.model_id} failed ({code}); asking {taken}")

    def _falls_back(self, error: PortwayError, *, talks_of_calls: bool) -> bool:
        """Whether another model takes over; it is the first one then."""
        code, failed = str(error.reason), self._models[0]
        others = [one for one in self._models[1:] if one.tool_calling or not one.type or not talks_of_calls]
        if code in TOO_LONG:
            others = [one for one in others if one.context_window > failed.context_window > 0]
        elif code not in FALLS_BACK:
            return False
        if others:
            self._models = others
        return bool(others)

    async def _shortened(
        self, talk: Talk, tools: Sequence[ToolResource], *, may_call: bool
    ) -> AsyncIterator[RunResult]:
        """What proves too long is asked with less of it, while nothing was said yet."""
        for shortening in range(SHORTENINGS + 1):
            try:
                async for result in self._stream(talk, tools, may_call=may_call):
                    yield result
                return
            except PortwayError as error:
                too_long = str(error.reason) in TOO_LONG and not self._said_now
                if not too_long or shortening == SHORTENINGS or not talk.shorten():
                    raise
            yield Progress("the talk was too long for the model; trying with less of it")

    async def _stream(self, talk: Talk, tools: Sequence[ToolResource], *, may_call: bool) -> AsyncIterator[RunResult]:
        self.answer, speech = ModelAnswer(), Speech()
        streamed = False
        async for event in self._host.models.stream(self._request(talk, tools, may_call=may_call)):
            pieces: Iterable[tuple[bool, str]] = ()
            match event:
                case ModelText(text):
                    streamed, pieces = True, speech.feed(text)
                case ModelReasoning(reasoning):
                    pieces = [(True, reasoning)]
                case ModelAnswer():
                    self.answer = event
                    # A model that does not stream says everything in its answer.
                    whole = () if streamed else speech.feed(event.message.text)
                    pieces = [*whole, *speech.rest()]
            for result in self._pieces(pieces):
                yield result
            if self.is_cut:
                # Leaving the stream ends the call at the host.
                self.answer = ModelAnswer(ModelMessage.assistant(""), FinishReason.LENGTH)
                return
        self._note(self.answer, talk.tokens())

    def _pieces(self, pieces: Iterable[tuple[bool, str]]) -> Iterator[RunResult]:
        for thought, text in pieces:
            yield from self._piece(thought, text)

    def _piece(self, thought: bool, text: str) -> Sequence[RunResult]:
        if not text:
            return ()
        if thought:
            self._thought += len(text)
            if self._thought > MAX_REASONING:
                raise Unavailable(
                    f"the model {self._models[0].model_id} thought {MAX_REASONING:,} characters without an answer",
                    reason=BAD_OUTPUT,
                )
            starts = range(0, len(text), PIECE)
            return [ReasoningDelta(text[start : start + PIECE], MESSAGE_KEY) for start in starts]
        apart = "\n\n" if self.said and not self._said_now else ""
        room = MAX_SAID_BYTES - self.said_bytes - len(apart)
        if len(text) * 4 > room:
            raw = text.encode()
            self.is_cut = len(raw) > room
            text = raw[: max(0, room)].decode(errors="ignore")
        self._said_now += text
        return self.add(apart + text)

    def add(self, text: str) -> Sequence[RunResult]:
        """Text to append to what the run says."""
        self.said += text
        self.said_bytes += len(text.encode())
        return (TextDelta(text, MESSAGE_KEY),) if text else ()

    def _request(self, talk: Talk, tools: Sequence[ToolResource], *, may_call: bool) -> ModelRequest:
        self._asked += 1
        model, settings = self._models[0], self._settings
        usable = tools if model.tool_calling or not model.type else ()
        return ModelRequest(
            model_id=model.model_id,
            messages=talk.messages(seeing=model.vision),
            tools=tuple(ModelTool(tool.name, tool.description, tool.parameters) for tool in usable),
            tool_choice="" if may_call or not usable else "none",
            temperature=settings.temperature,
            max_output_tokens=settings.max_output_tokens,
        )

    def _note(self, answer: ModelAnswer, estimate: int) -> None:
        model_id = answer.usage.model_id or answer.model_id or self._models[0].model_id
        self._purse.paid_model(replace(answer.usage, model_id=model_id), estimate)

    @property
    def finish(self) -> FinishReason:
        """Why the last answer ended, as far as people may want to know."""
        return self.answer.finish_reason if self.answer.finish_reason in PASSED_ON else FinishReason.STOP

    def _is_empty(self) -> bool:
        return not (self.message.text or self.message.tool_calls or self.answer.finish_reason in PASSED_ON)
