"""What follows from how an attempt to deliver ended. Decides; changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from portway.server.deliveries.types import Delivery, DeliveryState, Outcome
from portway.server.storage_engine.clock import SECOND, Micros

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
MAX_ATTEMPTS = 16
CONFIRMED_WITHIN = 15 * 60 * SECOND
# A platform that asks for more than this is asked again all the same: the delivery's own time limit decides.
_LONGEST_WISH = 3_600.0


class Answer(StrEnum):
    """How an attempt ended, as the adapter saw it."""

    ACKNOWLEDGED = "acknowledged"
    RETRYABLE = "retryable"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SENT = "sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an adapter tells of an attempt. `retry_after` in seconds, 0 where the platform said nothing."""

    delivery_id: str
    answer: Answer
    provider_message_id: str = ""
    error_code: str = ""
    error_message: str = ""
    retry_after: float = 0.0


def outcome_of(result: Result, delivery: Delivery, now: Micros, chance: Callable[[], float]) -> Outcome:
    """The state that the delivery has now. `chance` answers 0 to 1: pauses are spread, so that what failed together
    does not come back together."""
    return final_outcome(result, now) or _again(result, delivery, now, chance())


def final_outcome(result: Result, now: Micros) -> Outcome | None:
    """The same where it does not depend on the delivery; nothing for an attempt that is repeated.

    What was sent and is never confirmed is unknown after a while: `next_attempt_time` says when.
    """
    match result.answer:
        case Answer.ACKNOWLEDGED:
            return _ended(DeliveryState.ACKNOWLEDGED, result)
        case Answer.SENT:
            return _ended(DeliveryState.SENT, result, now + CONFIRMED_WITHIN)
        case Answer.UNKNOWN:
            return _ended(DeliveryState.UNKNOWN, result)
        case Answer.FAILED:
            return _ended(DeliveryState.FAILED, result)
        case Answer.RETRYABLE:
            return None
        case _:
            assert_never(result.answer)


def pause_after(attempts: int, chance: float) -> float:
    """Seconds before the next attempt, after so many: doubled each time, capped, half of it left to chance."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 30))
    return longest * (0.5 + chance / 2)


def _again(result: Result, delivery: Delivery, now: Micros, chance: float) -> Outcome:
    attempts = delivery.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return _ended(DeliveryState.DEAD_LETTER, result)
    pause = max(pause_after(attempts, chance), min(result.retry_after, _LONGEST_WISH))
    next_attempt_time = now + int(pause * SECOND)
    if delivery.expire_time and next_attempt_time >= delivery.expire_time:
        return _ended(DeliveryState.EXPIRED, result)
    return _ended(DeliveryState.PENDING, result, next_attempt_time)


def _ended(state: DeliveryState, result: Result, next_attempt_time: Micros = 0) -> Outcome:
    return Outcome(
        state=state,
        provider_message_id=result.provider_message_id,
        error_code=result.error_code,
        error_message=result.error_message,
        next_attempt_time=next_attempt_time,
    )
