"""The host's metrics, put together."""

from contextlib import AbstractAsyncContextManager

from portway.rpc.metrics.calls import CallCounts
from portway.rpc.metrics.families import Source
from portway.rpc.metrics.listener import show_metrics
from portway.server.listeners.numbers import ListenerNumbers
from portway.server.metrics.engine import EngineNumbers
from portway.server.metrics.open_work import OpenWork
from portway.server.parts import Parts


def show_host_metrics(parts: Parts, calls: CallCounts) -> AbstractAsyncContextManager[str]:
    """Show them while the block runs, where the settings say so."""
    host, stores = parts.config.host, parts.stores

    def links() -> dict[str, bool]:
        up = {"runtime": parts.runtime.state.connected}
        if parts.box_link is not None:
            up["box"] = parts.box_link.availability().available
        return up

    sources: list[Source] = [
        calls,
        parts.means.counts,
        ListenerNumbers(parts.listeners.stored),
        EngineNumbers(stores.database, host.data, parts.operations.reaper.progress),
        OpenWork(
            stores.database.reader,
            parts.dispatcher,
            parts.audit,
            parts.connections,
            links,
            parts.spending.notices,
            parts.models.retries,
        ),
    ]
    return show_metrics(host.metrics, host.tls, sources)
