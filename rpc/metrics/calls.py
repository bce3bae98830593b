"""Calls of one server, by method and code."""

from collections.abc import Iterable

from portway.rpc.metrics.families import CALL_SECONDS, Counts, Family, Histograms, counted, gauge, measured


class CallCounts:
    """Filled by the gate. Streams are counted and not timed: some live for days."""

    def __init__(self) -> None:
        self._codes = Counts()
        self._seconds = Histograms(CALL_SECONDS)
        self.under_way = 0
        self.open_streams = 0

    def begun(self, streams: bool) -> None:
        self.under_way += 1
        self.open_streams += streams

    def ended(self, streams: bool) -> None:
        self.under_way -= 1
        self.open_streams -= streams

    def add(self, method: str, code: str, seconds: float, streams: bool) -> None:
        self._codes.add(method, code)
        if not streams:
            self._seconds.add(seconds, method)

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        return [
            counted(
                "portway_rpc_calls", "Calls that ended, by method and status code.", ("method", "code"), self._codes
            ),
            measured("portway_rpc_seconds", "How long calls without streams took.", ("method",), self._seconds),
            gauge("portway_rpc_calls_under_way", "Calls that have begun and not ended, streams too.", self.under_way),
            gauge("portway_rpc_streams_open", "Streams that are open.", self.open_streams),
        ]
