"""Spans of work under way. They cost next to nothing where the trace of the work is not recorded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from portway.rpc.errors import PortwayError
from portway.rpc.telemetry import Trace, current_trace
from portway.rpc.traces.types import Kind, Link, Recorder, Span, Value, new_span_id


class OpenSpan:
    """Work that has begun. `enter` makes it the parent of what follows; `end` records it, once."""

    __slots__ = (
        "_attributes",
        "_before",
        "_error",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_recorder",
        "_start",
        "trace",
    )

    def __init__(
        self, parent: Trace, name: str, kind: Kind = Kind.INTERNAL, span_id: str = "", links: tuple[Link, ...] = ()
    ) -> None:
        recorder = parent.recorder
        assert recorder is not None, "only recorded traces have spans"
        self._recorder: Recorder = recorder
        self._name, self._kind, self._links = name, kind, links
        self._parent = parent.span_id
        self._attributes: dict[str, Value] = {}
        self._error = ""
        self._before: Trace | None = None
        self._start = time.time_ns()
        self.trace = parent.child(span_id or new_span_id())

    def set(self, **attributes: Value) -> None:
        """Facts for operators: ids, names, counts. Never what people or models said, arguments, or secrets."""
        self._attributes.update({f"portway.{name}": value for name, value in attributes.items()})

    def fail(self, code: str) -> None:
        """How it failed; a code."""
        self._error = code

    def enter(self) -> None:
        self._before = current_trace.get()
        current_trace.set(self.trace)

    def leave(self) -> None:
        """Not by the variable's token: a generator may be closed in another context than the one it began in."""
        current_trace.set(self._before)

    def end(self) -> None:
        trace = self.trace
        self._recorder.record(
            Span(
                trace_id=trace.trace_id,
                span_id=trace.span_id,
                parent_id=self._parent,
                name=self._name,
                start=self._start,
                end=time.time_ns(),
                kind=self._kind,
                attributes=self._attributes,
                links=self._links,
                error=self._error,
            )
        )


def begin_span(
    name: str, kind: Kind = Kind.INTERNAL, span_id: str = "", links: tuple[Link, ...] = ()
) -> OpenSpan | None:
    """A child of the current span; None where the trace is not recorded."""
    trace = current_trace.get()
    return OpenSpan(trace, name, kind, span_id, links) if trace is not None and trace.is_recorded else None


def entered_span(name: str, kind: Kind = Kind.INTERNAL) -> OpenSpan | None:
    """One that is the current span already; whoever asks calls `leave` and `end`."""
    span = begin_span(name, kind)
    if span is not None:
        span.enter()
    return span


@contextmanager
def spanning(
    name: str, kind: Kind = Kind.INTERNAL, span_id: str = "", links: tuple[Link, ...] = ()
) -> Iterator[OpenSpan | None]:
    """A span for the time of the block; what raises is its error, by code."""
    span = begin_span(name, kind, span_id, links)
    if span is None:
        yield None
        return
    span.enter()
    try:
        yield span
    except BaseException as error:
        span.fail(code_of(error))
        raise
    finally:
        span.leave()
        span.end()


def code_of(error: BaseException) -> str:
    return str(error.reason) if isinstance(error, PortwayError) else type(error).__name__
