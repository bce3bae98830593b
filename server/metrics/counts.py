"""What runs, their models and their tools did since the start: counted where it happens, without a lock or a task."""

import time
from collections.abc import Iterable

from portway.rpc.metrics.families import (
    RUN_SECONDS,
    Counts,
    Family,
    Histogram,
    Histograms,
    counted,
    measured,
    one_histogram,
)
from portway.v1 import usage_pb2

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_MICRO = 1_000_000


class RunCounts:
    """Labels are outcomes, kinds, and the ids of agents, providers and models, which operators configure."""

    def __init__(self) -> None:
        self._runs = Counts()
        self._attempt_seconds = Histograms(RUN_SECONDS)
        self._queue_seconds = Histogram(RUN_SECONDS)
        self._reply_seconds = Histogram(RUN_SECONDS)
        self._calls = Counts()
        self._model_seconds = Histograms(RUN_SECONDS)
        self._tokens = Counts()
        self._cost = Counts()
        self._passed_over = Counts()
        self._tools = Counts()
        self._tool_seconds = Histograms(RUN_SECONDS)

    def attempt_ended(self, outcome: str, agent: str, queued: float, began: float) -> None:
        """`queued` and `began` are of the monotonic clock."""
        now = time.monotonic()
        self._runs.add(outcome, agent)
        self._attempt_seconds.add(now - began, outcome)
        self._queue_seconds.add(max(0.0, began - queued))
        if outcome == "completed":
            self._reply_seconds.add(now - queued)

    def model_asked(self, provider: str, model: str, outcome: str, seconds: float) -> None:
        """A question has its answer, or its last failure."""
        self._calls.add(provider, model, outcome)
        self._model_seconds.add(seconds, provider, model)

    def model_used(self, provider: str, model: str, usage: usage_pb2.Usage) -> None:
        for name in _TOKENS:
            if value := getattr(usage, name):
                self._tokens.add(provider, model, name.removesuffix("_tokens"), by=value)
        if usage.cost_micros:
            self._cost.add(provider, model, usage.currency, by=usage.cost_micros / _MICRO)

    def model_passed_over(self, model: str, code: str) -> None:
        self._passed_over.add(model, code)

    def tool_called(self, kind: str, outcome: str, seconds: float) -> None:
        self._tools.add(kind, outcome)
        self._tool_seconds.add(seconds, kind)

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        by_model = ("provider", "model")
        return [
            counted("portway_attempts", "Attempts at runs that ended, by how.", ("outcome", "agent"), self._runs),
            measured(
                "portway_attempt_seconds", "From an attempt's begin to its end.", ("outcome",), self._attempt_seconds
            ),
            one_histogram("portway_queue_seconds", "How long runs waited for their turn.", self._queue_seconds),
            one_histogram(
                "portway_reply_seconds",
                "From a message on disk to the end of its run, of those that completed.",
                self._reply_seconds,
            ),
            counted("portway_model_calls", "Questions to models, by outcome.", (*by_model, "outcome"), self._calls),
            measured("portway_model_seconds", "From the question to the whole answer.", by_model, self._model_seconds),
            counted("portway_model_tokens", "Tokens, by kind.", (*by_model, "kind"), self._tokens),
            counted("portway_model_cost", "Cost by the price table.", (*by_model, "currency"), self._cost),
            counted(
                "portway_model_passed_over", "Models whose fallback was asked.", ("model", "code"), self._passed_over
            ),
            counted("portway_tool_calls", "Tool calls, by kind and outcome.", ("kind", "outcome"), self._tools),
            measured("portway_tool_seconds", "How long tool calls took.", ("kind",), self._tool_seconds),
        ]
