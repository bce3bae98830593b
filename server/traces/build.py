"""The host's spans, put together."""

from portway.rpc.traces.types import Recorder
from portway.server.parts import Parts


def attach_traces(parts: Parts, recorder: Recorder | None) -> None:
    """Tell the recorder of events, runs and deliveries; nobody is told anything without one."""
    if recorder is not None:
        traces = parts.means.traces
        traces.recorder, traces.runs = recorder, parts.stores.runs
        parts.acceptor.traces, parts.outbox.ended = traces, traces.delivered
