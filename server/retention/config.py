"""The section `retention` of the configuration: how long each kind of thing is kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_FORM = re.compile(r"(\d{1,9})\s*([smhdwy])")
_FOR_EVER = "forever"
# The longest time after which a platform still sends something again is four days; one more for a stopped clock.
SHORTEST_DEDUPE = 5 * 86_400
_SHORTEST_SPENDING = 62 * 86_400


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """Times are `forever`, or a number with a unit: `12h`, `30d`, `2y`. They count from the end of a thing.

    `conversations`: idle so long, they go whole. `artifacts`: files that have no end of their own. `events`: the raw
    inbound log with its dedupe keys, so it is never kept shorter than `dedupe`, nor than `dedupe_sources` for a source.
    `ledger`: what a run said step by step; its message is in the conversation. `runs`: the runs themselves, with
    snapshot, attempts. `deliveries`: those that arrived or were given up; `undelivered`: those that wait for a person.
    `interactions`: questions that were answered or ran out. `spending`: what each run used of each model; the sums of a
    month are made of it. `tokens`: ended ones. `every_seconds`: how often the reaper looks. `force_short_dedupe` allows
    less than five days.
    """

    conversations: str = _FOR_EVER
    artifacts: str = _FOR_EVER
    events: str = "90d"
    dedupe: str = "7d"
    dedupe_sources: Mapping[str, str] = field(default_factory=dict)
    ledger: str = "30d"
    runs: str = "1y"
    effects: str = "90d"
    approvals: str = "1y"
    deliveries: str = "30d"
    undelivered: str = "90d"
    interactions: str = "1y"
    spending: str = "3y"
    audit: str = "1y"
    tokens: str = "90d"
    every_seconds: float = 600.0
    force_short_dedupe: bool = False

    def __post_init__(self) -> None:
        for name in KINDS:
            self.seconds(name)
        for source, text in {"": self.dedupe, **self.dedupe_sources}.items():
            seconds = _seconds(f"dedupe of {source}" if source else "dedupe", text)
            if 0 < seconds < SHORTEST_DEDUPE and not self.force_short_dedupe:
                raise ValueError(
                    f"{f'dedupe_sources.{source}' if source else 'dedupe'} must be at least 5d: platforms send again "
                    "for up to four days, and what is forgotten is answered twice; `force_short_dedupe: true` allows it"
                )
        if 0 < self.seconds("runs") < self.seconds("ledger"):
            raise ValueError("runs must be kept at least as long as ledger")
        if 0 < self.seconds("spending") < _SHORTEST_SPENDING:
            raise ValueError("spending must be kept at least 62d: the budgets of a month are sums of it")
        if self.every_seconds <= 0:
            raise ValueError("every_seconds must be more than 0")

    def seconds(self, kind: str) -> int:
        """0: for ever. Raises ValueError."""
        return _seconds(kind, getattr(self, kind))

    def dedupe_seconds(self) -> tuple[int, dict[str, int]]:
        """How long the keys of events are kept: of any source, and of those with a time of their own."""
        own = {source: _seconds(source, text) for source, text in self.dedupe_sources.items()}
        return _seconds("dedupe", self.dedupe), own


KINDS = (
    "conversations",
    "artifacts",
    "events",
    "ledger",
    "effects",
    "approvals",
    "runs",
    "deliveries",
    "undelivered",
    "interactions",
    "spending",
    "audit",
    "tokens",
)


def _seconds(name: str, text: str) -> int:
    if text == _FOR_EVER:
        return 0
    match = _FORM.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{name} must be `forever` or a time such as `12h`, `30d` or `2y`")
    return int(match[1]) * _UNITS[match[2]]
