"""How far listeners are behind, for the metrics."""

from collections.abc import Iterable

from portway.rpc.metrics.families import Family
from portway.server.listeners.store import Listeners


class ListenerNumbers:
    """Asked when somebody reads the metrics. Labels are listeners of plugins, which operators install."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        lags = await self._listeners.lags()
        behind = [((listener,), float(lag)) for listener, lag, _ in lags]
        missed = [((listener,), float(count)) for listener, _, count in lags]
        return [
            Family(
                "portway_listener_lag",
                "gauge",
                "Events that an event listener has not seen yet, in the workspace where it is farthest behind.",
                ("listener",),
                behind,
            ),
            Family(
                "portway_listener_missed",
                "gauge",
                "Events that an event listener will not see: expired, or given up.",
                ("listener",),
                missed,
            ),
        ]
