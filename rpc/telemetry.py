"""Structured logs and trace ids.

`configure_logging` is called once by each process. Lines are JSON for machines or coloured text for a terminal; secrets
are taken out on the way. `bound(run_id=…)` adds fields to every line of a block, across awaits.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TextIO

import structlog

from portway.rpc.redaction import redact_field, redact_text

TRACE_HEADER = "traceparent"
_TRACEPARENT = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")
_NO_TRACE = "0" * 32

LogFormat = Literal["json", "console"]


class Trace:
    """The trace that a call belongs to. Its id is made when somebody asks for it first: most calls log nothing."""

    __slots__ = ("_parent", "_trace_id")

    def __init__(self, traceparent: str | None = None) -> None:
        self._parent = traceparent
        self._trace_id: str | None = None

    @property
    def trace_id(self) -> str:
        if self._trace_id is None:
            match = _TRACEPARENT.fullmatch(self._parent) if self._parent else None
            taken = match["trace"] if match else _NO_TRACE
            self._trace_id = taken if taken != _NO_TRACE else os.urandom(16).hex()
        return self._trace_id

    def traceparent(self) -> str:
        """The header for a call made on behalf of this trace; each has a span id of its own."""
        return f"00-{self.trace_id}-{os.urandom(8).hex()}-01"


current_trace: ContextVar[Trace | None] = ContextVar("portway_trace", default=None)


@contextmanager
def tracing(trace: Trace) -> Iterator[Trace]:
    """Work that no call started, such as a run after a restart: logs and outgoing calls inside carry this trace."""
    reset = current_trace.set(trace)
    try:
        yield trace
    finally:
        current_trace.reset(reset)


def bound(**fields: object) -> AbstractContextManager[None]:
    """Adds fields such as `run_id` to every log line inside the block."""
    return structlog.contextvars.bound_contextvars(**fields)


Event = MutableMapping[str, Any]


def _add_trace(_logger: object, _method: str, event: Event) -> Event:
    trace = current_trace.get()
    if trace is not None:
        event["trace_id"] = trace.trace_id
    return event


def _redact(_logger: object, _method: str, event: Event) -> Event:
    for key, value in event.items():
        event[key] = redact_field(key, value)
    return event


def configure_logging(
    service: str,
    *,
    format: LogFormat = "json",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Sends the logs of `service`, and those of libraries from `warning` on, to `stream` (standard error)."""
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]

    def add_service(_logger: object, _method: str, event: Event) -> Event:
        event["service"] = service
        return event

    shared: list[Callable[[Any, str, Event], Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_service,
        _add_trace,
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time")
        if format == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def safe_text(error: BaseException) -> str:
    """What an exception says, fit for a log field or a status line."""
    return redact_text(f"{type(error).__name__}: {error}")
