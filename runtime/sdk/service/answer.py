"""An answer while it comes in: what is streamed, and the one message that it ends as."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portway.runtime.sdk.service.failures import ServiceFailure
from portway.runtime.sdk.service.reading import whole
from portway.runtime.sdk.service.reasoning import ReasoningSplitter, split_reasoning
from portway.runtime.sdk.session.failures import RunFailure
from portway.runtime.sdk.types.content import Part, text_part
from portway.runtime.sdk.types.results import (
    FinishReason,
    MessageCompleted,
    ReasoningDelta,
    RunCompleted,
    RunResult,
    TextDelta,
)
from portway.runtime.sdk.types.usage import Usage

MESSAGE_KEY = "answer"
# A completed message must fit into one result.
MAX_TEXT = 256 * 1024
MAX_REFERENCES = 20
MAX_FILES = 10


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an answer comes from; `url` may be empty."""

    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A file that the service made: where it is, or its bytes. The address may be one relative to the service's."""

    url: str = ""
    name: str = ""
    mime_type: str = ""
    data: bytes = b""


class Answer:
    """Everything that a run says is one message with one key. `usage` is told with the end."""

    def __init__(self, service: str, *, show_references: bool = True) -> None:
        self._service = service
        self._show_references = show_references
        self._text = ""
        self._splitter = ReasoningSplitter()
        self._half = ""
        self._references: dict[Reference, None] = {}
        self._made: dict[Made, None] = {}
        self._enclosed: list[Part] = []
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        return self._text

    @property
    def made(self) -> Sequence[Made]:
        return tuple(self._made)

    def say(self, text: str) -> Iterator[RunResult]:
        """Text to append; reasoning between tags inside it is told apart."""
        text = self._half + text
        # Some services cut between the two halves of a character.
        self._half = text[-1:] if "\ud800" <= text[-1:] < "\udc00" else ""
        yield from self._pieces(self._splitter.feed(whole(text[: len(text) - len(self._half)])))

    def think(self, reasoning: str) -> Iterator[RunResult]:
        if reasoning:
            yield ReasoningDelta(whole(reasoning), MESSAGE_KEY)

    def catch_up(self, repeated: str) -> Iterator[RunResult]:
        """The whole text so far, of a service that repeats what it said: only what is new is streamed."""
        text, _ = split_reasoning(whole(repeated))
        if text.startswith(self._text):
            yield from self._add(text[len(self._text) :])
        else:
            self.replace(text)

    def replace(self, text: str) -> None:
        """What was streamed is withdrawn: the completed message has this text instead."""
        self._splitter, self._half = ReasoningSplitter(), ""
        self._text = self._bounded(split_reasoning(whole(text))[0])

    def refer(self, reference: Reference) -> None:
        if reference.title and len(self._references) < MAX_REFERENCES:
            self._references[Reference(whole(reference.title), whole(reference.url))] = None

    def attach(self, made: Made) -> None:
        """A file that belongs to the answer; `taking.ended` takes it over."""
        if len(self._made) < MAX_FILES:
            self._made[made] = None

    def enclose(self, part: Part) -> None:
        """A part that the completed message has beside its text."""
        self._enclosed.append(part)

    def finish(self, reason: FinishReason = FinishReason.STOP) -> Iterator[RunResult]:
        """The message and the end. Raises `RunFailure` where the service said nothing."""
        yield from self._pieces(self._splitter.rest())
        if not self._text.strip() and not self._enclosed:
            raise RunFailure(
                "runner.empty_output", f"{self._service} ended without an answer; look at the application there"
            )
        if self._show_references:
            yield from self._add(_listed(list(self._references)))
        parts = (text_part(self._text),) if self._text.strip() else ()
        yield MessageCompleted((*parts, *self._enclosed), MESSAGE_KEY)
        yield RunCompleted(reason, usage=self.usage)

    def _pieces(self, pieces: Iterator[tuple[bool, str]]) -> Iterator[RunResult]:
        for inside, piece in pieces:
            if inside:
                yield ReasoningDelta(piece, MESSAGE_KEY)
            else:
                # The empty lines between reasoning and text belong to neither.
                yield from self._add(piece if self._text else piece.lstrip("\n"))

    def _add(self, text: str) -> Iterator[RunResult]:
        if text:
            self._text = self._bounded(self._text + text)
            yield TextDelta(text, MESSAGE_KEY)

    def _bounded(self, text: str) -> str:
        if len(text) > MAX_TEXT:
            message = f"{self._service} sent more than {MAX_TEXT:,} characters; have the application answer with less"
            raise ServiceFailure("service.too_large", message)
        return text


def _listed(references: list[Reference]) -> str:
    if not references:
        return ""
    lines = [f"{number}. {one.title}{f' ({one.url})' if one.url else ''}" for number, one in enumerate(references, 1)]
    return "\n\n" + "\n".join(lines)
