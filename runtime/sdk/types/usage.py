"""What models and runs consume."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """What was consumed. None is unknown, never zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    model_id: str = ""
    cost_micros: int | None = None
    currency: str = ""
    price_version: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend. None is no limit."""

    cost_micros: int | None = None
    currency: str = ""
    tokens: int | None = None
    calls: int | None = None
    bytes: int | None = None
    time: timedelta | None = None


def add_usage(several: Iterable[Usage]) -> Usage:
    """The sum; what one of them does not know is unknown in the sum only if none knows it. The last model is named."""
    total = Usage()
    for usage in several:
        sums: dict[str, Any] = {}
        for field in fields(Usage):
            old, new = getattr(total, field.name), getattr(usage, field.name)
            if isinstance(old, str):
                sums[field.name] = new or old
            else:
                sums[field.name] = new if old is None else old if new is None else old + new
        total = replace(total, **sums)
    return total
