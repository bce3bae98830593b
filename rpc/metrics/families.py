"""Numbers that are counted in plain Python and read when somebody asks. Labels are bounded: nobody's ids, and at most
`MAX_SERIES` of one family; what comes after those is counted under `other`."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

MAX_SERIES = 1_000
OTHER = "other"
# Seconds. Calls of a millisecond and runs of minutes; a factor of about three between neighbours.
CALL_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
RUN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Labels = tuple[str, ...]


class Histogram:
    """Counts by upper bounds, one more for all above. Filled by one thread, read by any."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counts:
    """One counter for each combination of labels."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self._counts: dict[Labels, float] = {}
        self._limit = limit

    def add(self, *labels: str, by: float = 1) -> None:
        counts = self._counts
        if labels not in counts and len(counts) >= self._limit:
            labels = (OTHER,) * len(labels)
        counts[labels] = counts.get(labels, 0) + by

    def items(self) -> Iterable[tuple[Labels, float]]:
        return list(self._counts.items())


class Histograms:
    """One histogram for each combination of labels."""

    __slots__ = ("_bounds", "_found", "_limit")

    def __init__(self, bounds: Sequence[float], limit: int = MAX_SERIES) -> None:
        self._bounds = tuple(bounds)
        self._found: dict[Labels, Histogram] = {}
        self._limit = limit

    def add(self, value: float, *labels: str) -> None:
        found = self._found.get(labels)
        if found is None:
            if len(self._found) >= self._limit:
                labels = (OTHER,) * len(labels)
            found = self._found.setdefault(labels, Histogram(self._bounds))
        found.add(value)

    def items(self) -> Iterable[tuple[Labels, Histogram]]:
        return list(self._found.items())


@dataclass(frozen=True, slots=True)
class Family:
    """Everything of one name. The name of a counter has no `_total`; a histogram has `histograms` instead of values."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    values: Sequence[tuple[Labels, float]] = ()
    histograms: Sequence[tuple[Labels, Histogram]] = field(default=())


class Source(Protocol):
    """Who has something to tell."""

    async def families(self) -> Iterable[Family]:
        """What it is now. Briefly: whoever asks waits."""


def counter(name: str, help: str, value: float) -> Family:
    return Family(name, "counter", help, (), [((), value)])


def gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, (), [((), value)])


def gauges(name: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """One value for each value of one label."""
    return Family(name, "gauge", help, (label,), [((key,), value) for key, value in values.items()])


def counted(name: str, help: str, labels: Labels, counts: Counts) -> Family:
    return Family(name, "counter", help, labels, list(counts.items()))


def measured(name: str, help: str, labels: Labels, histograms: Histograms) -> Family:
    return Family(name, "histogram", help, labels, histograms=list(histograms.items()))


def one_histogram(name: str, help: str, histogram: Histogram) -> Family:
    return Family(name, "histogram", help, histograms=[((), histogram)])


def cumulated(histogram: Histogram) -> Iterator[tuple[str, int]]:
    """Bounds as text with the counts up to them, as Prometheus wants them."""
    # A copy: the counts grow while they are read, and the last must not be smaller than one before it.
    counts, sofar = list(histogram.counts), 0
    for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
        sofar += count
        yield ("+Inf" if bound == float("inf") else repr(bound)), sofar
