"""What a model is shown: instructions, history, and this run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from portway.runtime.official.local_agent.context.tokens import tokens_of
from portway.runtime.official.local_agent.context.words import for_eyes
from portway.runtime.sdk import ModelMessage

# The host takes 2,000 messages in a request.
MAX_MESSAGES = 1_900
CLIPPED_RESULT = 1_000
_LEFT_OUT = "[earlier rounds of tool calls of this run were left out, because there were too many]"


@dataclass(frozen=True, slots=True)
class Turn:
    """What stays together: a round is the calls of one answer with all their results."""

    messages: tuple[ModelMessage, ...]
    is_round: bool = False


class Talk:
    """Grows with the run. Where it grows too long, the oldest goes first, and never a call without its result."""

    def __init__(self, prompt: Sequence[ModelMessage], history: Sequence[ModelMessage] = ()) -> None:
        self._prompt = tuple(prompt)
        self._history = tuple(history)
        self._now: list[Turn] = []
        self._gone = False

    def add(self, *messages: ModelMessage) -> None:
        """What somebody said, or an answer without calls."""
        self._now += [Turn((message,)) for message in messages]

    def add_round(self, asked: ModelMessage, results: Sequence[ModelMessage]) -> None:
        self._now.append(Turn((asked, *results), is_round=True))

    def go_on(self, turns: Sequence[Turn]) -> None:
        """What an earlier run had."""
        self._now += turns

    @property
    def now(self) -> Sequence[Turn]:
        """This run's own part."""
        return tuple(self._now)

    @property
    def has_calls(self) -> bool:
        return any(turn.is_round for turn in self._now)

    def messages(self, *, seeing: bool) -> tuple[ModelMessage, ...]:
        """As a model gets them; pictures are described to one that does not see."""
        while self._count() > MAX_MESSAGES and self.shorten():
            pass
        note = (ModelMessage.user(_LEFT_OUT),) if self._gone else ()
        now = [message for turn in self._now for message in turn.messages]
        first = 1 if now else 0
        ordered = (*self._prompt, *self._history, *now[:first], *note, *now[first:])
        return tuple(for_eyes(message, seeing=seeing) for message in ordered)

    def tokens(self) -> int:
        return tokens_of(self.messages(seeing=True))

    def shorten(self) -> bool:
        """Forgets the older half of the history; without one, clips the results of the older half of the rounds, or
        forgets these rounds. Answers whether there was anything."""
        if self._history:
            self._history = self._history[(len(self._history) + 1) // 2 :]
            return True
        places = [place for place, turn in enumerate(self._now) if turn.is_round]
        older = places[: (len(places) + 1) // 2]
        shorter = {place: clipped(self._now[place], CLIPPED_RESULT) for place in older}
        if any(shorter[place] != self._now[place] for place in older):
            self._now = [shorter.get(place, turn) for place, turn in enumerate(self._now)]
            return True
        if len(places) < 2:
            return False
        self._gone = True
        self._now = [turn for place, turn in enumerate(self._now) if place not in older]
        return True

    def _count(self) -> int:
        return len(self._prompt) + len(self._history) + sum(len(turn.messages) for turn in self._now)


def clipped(turn: Turn, longest: int) -> Turn:
    """The turn with shorter results."""
    return replace(turn, messages=tuple(_clip(message, longest) for message in turn.messages))


def _clip(message: ModelMessage, longest: int) -> ModelMessage:
    result = message.tool_result
    if result is None or len(result.text) <= longest + 100:
        return message
    text = f"{result.text[:longest]}\n[{len(result.text) - longest:,} characters left out]"
    return replace(message, tool_result=replace(result, text=text))
