"""Structured logs and trace ids.

`configure_logging` is called once by each process. Lines are JSON for machines or coloured text for a terminal; secrets
are taken out on the way. `bound(run_id=…)` adds fields to every line of a block, across awaits.
"""

import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from portway.rpc.log_writer import LogWriter, Render
from portway.rpc.redaction import redact_fields, redact_text

if TYPE_CHECKING:
    from portway.rpc.traces.types import Recorder

TRACE_HEADER = "traceparent"
_TRACEPARENT = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
_NO_TRACE = "0" * 32

LogFormat = Literal["json", "console"]


class Trace:
    """The trace that a call belongs to, and where in it. Its id is made when somebody asks for it first: most calls
    log nothing. `recorder` takes its spans, where there is one."""

    __slots__ = ("_metadata", "_span_id", "_trace_id", "is_joined", "recorder")

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]] = (), recorder: "Recorder | None" = None) -> None:
        """Goes on with the trace in a call's metadata, or begins one."""
        self._metadata = metadata
        self._trace_id: str | None = None
        self._span_id = ""
        # Whether it goes on with one that somebody else records.
        self.is_joined = False
        self.recorder = recorder

    @classmethod
    def at(cls, trace_id: str, span_id: str = "", recorder: "Recorder | None" = None) -> "Trace":
        """A place in a trace that is known."""
        trace = cls((), recorder)
        trace._trace_id, trace._span_id = trace_id, span_id
        return trace

    @property
    def trace_id(self) -> str:
        if self._trace_id is None:
            self._read()
        assert self._trace_id is not None
        return self._trace_id

    @property
    def span_id(self) -> str:
        """The span that what happens now is part of; '' for none that anybody records."""
        if self._trace_id is None:
            self._read()
        return self._span_id

    @property
    def is_recorded(self) -> bool:
        """Follows from the id alone: every server, and every attempt after a kill, decides alike."""
        return self.recorder is not None and self.recorder.samples(self.trace_id)

    def _read(self) -> None:
        parent = next((value for key, value in self._metadata if key == TRACE_HEADER), "")
        match = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
        if match is None or match["trace"] == _NO_TRACE:
            self._trace_id = f"{random.getrandbits(128):032x}"
            return
        self._trace_id = match["trace"]
        if int(match["flags"], 16) & 1:
            self._span_id, self.is_joined = match["span"], True

    def child(self, span_id: str) -> "Trace":
        """What happens within a span of this trace."""
        return Trace.at(self.trace_id, span_id, self.recorder)

    def traceparent(self) -> str:
        """The header for a call made on behalf of this trace. Without a recorded span it has an id of its own."""
        flags = "01" if self.span_id else "00"
        return f"00-{self.trace_id}-{self.span_id or f'{random.getrandbits(64):016x}'}-{flags}"


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


def _stamp(_logger: object, level: str, event: Event) -> Event:
    event["level"] = level
    event["time"] = time.time()
    return event


def _hand_over(_logger: object, _method: str, event: Event) -> tuple[tuple[Event], dict[str, Any]]:
    return (event,), {}


class _Lines:
    """What structlog and the standard library's logging end in. Urgent lines are written before the caller goes on."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def write(self, line: str) -> None:
        self._writer.put(line)

    def flush(self) -> None:
        """The writer decides when."""

    def msg(self, event: dict[str, Any]) -> None:
        self._writer.put(event)

    def err(self, event: dict[str, Any]) -> None:
        self._writer.put(event)
        self._writer.flush()

    debug = info = warning = warn = msg
    error = critical = fatal = exception = err


def _renderer(service: str, format: LogFormat, colors: bool) -> Render:
    end: Any = (
        structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time", pad_event_to=30)
        if format == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )

    def render(event: dict[str, Any]) -> str:
        level, at = event.pop("level", "info"), event.pop("time", None) or time.time()
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields = redact_fields(structlog.processors.format_exc_info(None, level, event))
        line = {"time": when, "level": level, "service": service, "event": fields.pop("event", ""), **fields}
        return redact_text(str(end(None, level, line))) + "\n"

    return render


def configure_logging(
    service: str,
    *,
    format: LogFormat = "json",
    level: str = "info",
    stream: TextIO | None = None,
) -> Callable[[], None]:
    """Sends the logs of `service`, and those of libraries from `warning` on, to `stream` (standard error).

    Starts a thread, so a process that forks calls it again in the child. Returns what writes all that waits: for the
    moment before `os._exit` or `os.exec…`, which skip the usual end.
    """
    out = stream or sys.stderr
    render = _renderer(service, format, out.isatty())
    writer = LogWriter(out, render)
    lines = _Lines(writer)
    number = logging.getLevelNamesMapping()[level.upper()]
    own: list[Callable[[Any, str, Event], Any]] = [structlog.contextvars.merge_contextvars, _add_trace, _stamp]
    structlog.configure(
        processors=[*own, _hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.terminator = ""
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=own,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _logger, _method, event: render(dict(event)),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    return writer.flush


def safe_text(error: BaseException) -> str:
    """What an exception says, fit for a log field or a status line."""
    return redact_text(f"{type(error).__name__}: {error}")
