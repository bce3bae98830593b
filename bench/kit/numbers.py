"""What is said of many measurements."""

import statistics
from collections.abc import Sequence


def p50(taken: Sequence[float]) -> float:
    return statistics.median(taken)


def p99(taken: Sequence[float]) -> float:
    """The 99th of 100; the worst where there are fewer."""
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
