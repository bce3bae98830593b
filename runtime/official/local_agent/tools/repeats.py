"""Finds out that a model goes in circles."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

# A model that does not listen to so many refusals, or so many rounds without one result, has nothing more to try.
MOST_REFUSALS = 3
MOST_FAILED_ROUNDS = 6


class Repeats:
    """The same call with the same arguments is made at most `limit` times in a run; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._made: Counter[str] = Counter()
        self._refused = 0
        self._failed_rounds = 0

    def allows(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Counts one more."""
        key = f"{tool}\0{json.dumps(arguments, sort_keys=True)}"
        self._made[key] += 1
        if not self._limit or self._made[key] <= self._limit:
            return True
        self._refused += 1
        return False

    def round_ended(self, *, all_failed: bool) -> None:
        self._failed_rounds = self._failed_rounds + 1 if all_failed else 0

    @property
    def is_hopeless(self) -> bool:
        """The model is to answer with what it has."""
        return self._refused >= MOST_REFUSALS or self._failed_rounds >= MOST_FAILED_ROUNDS

    @property
    def limit(self) -> int:
        return self._limit
