"""What a run consumed: measured by the host where its calls went through it, reported by the runner otherwise."""

from dataclasses import replace

from portway.server.runs.types import Usage
from portway.v1 import usage_pb2

_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_micros")

# A runner may report any number. No run uses so much, and the sums over many runs still fit into the database.
_MOST = 10**12


class UsageSum:
    """Sums usage. A count that nobody told stays unknown."""

    def __init__(self) -> None:
        self._measured: dict[str, int] = {}
        self._reported: dict[str, int] = {}
        self._model_id = ""
        self._currency = ""
        self._price_version = ""
        self._reported_model_id = ""

    def measured(self, usage: usage_pb2.Usage) -> None:
        """A call through the host has ended."""
        _add(self._measured, usage)
        self._model_id = usage.model_id or self._model_id
        if usage.HasField("cost_micros"):
            # Money of two currencies has no sum; the calls' own costs tell it.
            mixed = self._currency not in ("", usage.currency)
            self._currency = "mixed" if mixed else usage.currency
            self._price_version = usage.price_version

    def reported(self, usage: usage_pb2.Usage) -> None:
        """The runner says what it used."""
        _add(self._reported, usage)
        self._reported_model_id = usage.model_id or self._reported_model_id

    @property
    def model_id(self) -> str:
        """The model that was asked last through the host; '' before the first."""
        return self._model_id

    def total(self) -> Usage:
        counts = self._measured or self._reported
        model_id = self._model_id or self._reported_model_id
        total = Usage(**{name: counts.get(name) for name in _COUNTS}, model_id=model_id)  # type: ignore[arg-type]
        if self._currency == "mixed":
            return replace(total, cost_micros=None)
        return replace(total, currency=self._currency, price_version=self._price_version)


def _add(sums: dict[str, int], usage: usage_pb2.Usage) -> None:
    for name in _COUNTS:
        if usage.HasField(name):  # type: ignore[arg-type]  # names of the message's own fields
            sums[name] = min(_MOST, sums.get(name, 0) + max(0, getattr(usage, name)))
