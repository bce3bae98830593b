"""What was used, by whom and when, and which budget it counts against."""

from dataclasses import dataclass, fields
from enum import StrEnum

from portway.rpc.errors import InvalidInput
from portway.server.agents.types import Budget

MICROS = 1_000_000


class Level(StrEnum):
    """Whose budget it is. All but a run's begin anew each month."""

    RUN = "run"
    CONVERSATION = "conversation"
    AGENT = "agent"
    WORKSPACE = "workspace"


class Group(StrEnum):
    """By what spending is split."""

    AGENT = "agent_id"
    CONVERSATION = "conversation_id"
    MODEL = "model_id"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Quantities that add up. Money in micro-units, time in microseconds.

    `unpriced_calls` are calls of models whose cost nobody knows.
    """

    cost_micros: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    bytes: int = 0
    time_micros: int = 0
    unpriced_calls: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.cost_micros + other.cost_micros,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.calls + other.calls,
            self.bytes + other.bytes,
            self.time_micros + other.time_micros,
            self.unpriced_calls + other.unpriced_calls,
        )

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.cost_micros - other.cost_micros,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.calls - other.calls,
            self.bytes - other.bytes,
            self.time_micros - other.time_micros,
            self.unpriced_calls - other.unpriced_calls,
        )


AMOUNTS = tuple(field.name for field in fields(Amounts))
NOTHING = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who pays for one attempt at a run."""

    workspace_id: str
    agent_id: str
    conversation_id: str
    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingRow:
    """What one attempt used on one day (such as 20261121) for one model ('' for what is no model's).

    It is always the whole of it: writing it again replaces it, so nothing is counted twice.
    """

    workspace_id: str
    run_id: str
    attempt: int
    day: int
    model_id: str
    agent_id: str
    conversation_id: str
    currency: str
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose spending. A conversation's budget is an agent's: with `agent_id`, only what that agent spent in it.

    `month` is such as 202611; 0 for a run's whole life.
    """

    level: Level
    workspace_id: str
    subject_id: str
    month: int
    agent_id: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """A sum with its currency ('' where nothing had a price)."""

    amounts: Amounts = NOTHING
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a month: `name` is an agent's, conversation's or model's id, or a day such as `2026-11-21`."""

    name: str
    spent: Spent


@dataclass(frozen=True, slots=True)
class Limit:
    """One dimension of a budget: how much of it there is, how much is used and held, and how people read it."""

    name: str
    limit: int
    used: int
    held: int


def limits_of(budget: Budget, used: Amounts, held: Amounts) -> list[Limit]:
    """The dimensions that have a limit."""
    found = []
    if budget.cost_micros is not None:
        found.append(Limit("cost", budget.cost_micros, used.cost_micros, held.cost_micros))
    if budget.tokens is not None:
        found.append(Limit("tokens", budget.tokens, used.tokens, held.tokens))
    if budget.calls is not None:
        found.append(Limit("calls", budget.calls, used.calls, held.calls))
    if budget.bytes is not None:
        found.append(Limit("bytes", budget.bytes, used.bytes, held.bytes))
    if budget.seconds is not None:
        found.append(Limit("time", round(budget.seconds * MICROS), used.time_micros, held.time_micros))
    return found


def is_limited(budget: Budget) -> bool:
    """Whether there is any limit."""
    return any(
        one is not None for one in (budget.cost_micros, budget.tokens, budget.calls, budget.bytes, budget.seconds)
    )


def exhausted_by(budget: Budget, used: Amounts) -> str:
    """The dimension that is spent; '' where none is."""
    return next((one.name for one in limits_of(budget, used, NOTHING) if one.used >= one.limit), "")


def told(limit: Limit) -> str:
    """What people read of a limit: `812 of 1000 tokens`."""
    match limit.name:
        case "cost":
            return f"{limit.used / MICROS:.4f} of {limit.limit / MICROS:.4f} in money"
        case "time":
            return f"{limit.used / MICROS:.1f} of {limit.limit / MICROS:.1f} seconds"
        case "calls":
            return f"{limit.used} of {limit.limit} calls of models and tools"
        case "bytes":
            return f"{limit.used} of {limit.limit} bytes written"
        case name:
            return f"{limit.used} of {limit.limit} {name}"


def invalid_month(text: str) -> InvalidInput:
    return InvalidInput.field("month", f"{text!r} is no month such as 2026-11")
