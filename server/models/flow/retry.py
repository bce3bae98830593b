"""Whether and when a call that failed before it said anything is tried again."""

from __future__ import annotations

import random

from portway.server.models.errors import ModelError, ModelErrorCode

FIRST_DELAY = 0.5
# A provider that wants a longer pause than this is better left to a fallback or to the person.
LONGEST_DELAY = 20.0
# Not a timeout: who waited that long once should not wait so long again.
_AGAIN = frozenset({ModelErrorCode.UNAVAILABLE, ModelErrorCode.RATE_LIMITED, ModelErrorCode.BAD_OUTPUT})


def delay_before_retry(failure: ModelError, tries: int, allowed: int, patience: float) -> float | None:
    """Seconds to wait before the next try, `None` when there is none. `tries` were made already."""
    if tries > allowed or not failure.retryable or failure.code not in _AGAIN:
        return None
    delay = FIRST_DELAY * 2 ** (tries - 1) * random.uniform(0.5, 1.0)
    delay = max(delay, failure.retry_after or 0.0)
    return delay if delay <= min(patience, LONGEST_DELAY) else None
