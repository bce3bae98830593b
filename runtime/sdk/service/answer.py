"""An answer while it comes in: what is streamed, and the one message that it ends as."""

from collections.abc import Iterator
from dataclasses import dataclass

from portway.runtime.sdk.service.failures import ServiceFailure
from portway.runtime.sdk.service.reasoning import ReasoningSplitter, split_reasoning
from portway.runtime.sdk.session.failures import RunFailure
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


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an answer comes from; `url` may be empty."""

    title: str
    url: str = ""


class Answer:
    """Everything that a run says is one message with one key. `usage` is told with the end."""

    def __init__(self, service: str, *, show_references: bool = True) -> None:
        self._service = service
        self._show_references = show_references
        self._text = ""
        self._splitter = ReasoningSplitter()
        self._references: dict[Reference, None] = {}
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        return self._text

    def say(self, text: str) -> Iterator[RunResult]:
        """Text to append; reasoning between tags inside it is told apart."""
        yield from self._pieces(self._splitter.feed(text))

    def think(self, reasoning: str) -> Iterator[RunResult]:
        if reasoning:
            yield ReasoningDelta(reasoning, MESSAGE_KEY)

    def catch_up(self, whole: str) -> Iterator[RunResult]:
        """The whole text so far, of a service that repeats what it said: only what is new is streamed."""
        text, _ = split_reasoning(whole)
        if text.startswith(self._text):
            yield from self._add(text[len(self._text) :])
        else:
            self.replace(text)

    def replace(self, text: str) -> None:
        """What was streamed is withdrawn: the completed message has this text instead."""
        self._splitter = ReasoningSplitter()
        self._text = self._bounded(split_reasoning(text)[0])

    def refer(self, reference: Reference) -> None:
        if reference.title and len(self._references) < MAX_REFERENCES:
            self._references[reference] = None

    def finish(self, reason: FinishReason = FinishReason.STOP) -> Iterator[RunResult]:
        """The message and the end. Raises `RunFailure` where the service said nothing."""
        yield from self._pieces(self._splitter.rest())
        if not self._text.strip():
            raise RunFailure(
                "runner.empty_output", f"{self._service} ended without an answer; look at the application there"
            )
        if self._show_references:
            yield from self._add(_listed(list(self._references)))
        yield MessageCompleted.of_text(self._text, message_key=MESSAGE_KEY)
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
