"""Sends spans to a collector by OTLP over HTTP, in batches, on a thread of its own.

The collector is the operator's own, like the database: the settings name it, and nothing that others say reaches this
address. Redirects are not followed and proxies of the environment are not used, so that a key in the headers goes
nowhere else.
"""

import asyncio
import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog

from portway.rpc.telemetry import safe_text
from portway.rpc.traces.config import TelemetryConfig
from portway.rpc.traces.types import Recorder, Span, Value

MAX_WAITING = 8_192
BATCH = 512
EVERY_SECONDS = 1.0
_LONGEST_PAUSE = 30.0
_LAST_SECONDS = 2.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})


@asynccontextmanager
async def export_spans(config: TelemetryConfig, server: str, instance: str = "") -> AsyncIterator[Recorder | None]:
    """Who takes spans while the block runs; None where no collector is configured."""
    if not config.otlp_endpoint:
        yield None
        return
    exporter = Exporter(config, {"service.name": f"portway-{server}", "service.instance.id": instance or server})
    try:
        yield exporter
    finally:
        await asyncio.to_thread(exporter.close)


class Exporter:
    """At most `MAX_WAITING` spans wait; more are counted and dropped. A collector that is away is told once."""

    def __init__(self, config: TelemetryConfig, resource: Mapping[str, str]) -> None:
        self._config = config
        self._resource = {**resource, "service.version": version("portway")}
        # As other samplers do: by the lower half of the trace id, which the whole mesh shares.
        self._bound = round(config.ratio * (1 << 64))
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._connection: http.client.HTTPConnection | None = None
        self._failing = False
        self.dropped = 0
        self.sent = 0
        self._log = structlog.get_logger("portway.traces")
        self._thread = threading.Thread(target=self._run, name="span-exporter", daemon=True)
        self._thread.start()

    def samples(self, trace_id: str) -> bool:
        """See `Recorder`."""
        return int(trace_id[16:], 16) < self._bound

    def record(self, span: Span) -> None:
        """See `Recorder`."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(span)

    def close(self) -> None:
        """Send what waits, within a short time."""
        self._closing = True
        self._wake.set()
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        pause = EVERY_SECONDS
        while not self._closing:
            self._wake.wait(pause)
            pause = EVERY_SECONDS if self._send_all() else min(pause * 2, _LONGEST_PAUSE)
        if self._connection is not None:
            self._connection.close()

    def _send_all(self) -> bool:
        """Whether the collector is there."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                status = self._post(encoded(batch, self._resource))
            except (OSError, http.client.HTTPException) as error:
                self._back(batch, safe_text(error))
                return False
            if status in _TRY_AGAIN:
                self._back(batch, f"it answered {status}")
                return False
            if status >= 300:
                self.dropped += len(batch)
                self._tell(f"it answered {status}, and these spans are dropped")
                return True
            self.sent += len(batch)
            if self._failing:
                self._failing = False
                self._log.info("traces are sent again", dropped=self.dropped)
        return True

    def _back(self, batch: Sequence[Span], why: str) -> None:
        self._tell(why)
        self._disconnect()
        self._waiting.extendleft(reversed(batch))

    def _tell(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            host = urlsplit(self._config.otlp_endpoint).hostname
            self._log.warning("traces cannot be sent; they are kept for a while, then dropped", host=host, reason=why)

    def _post(self, body: bytes) -> int:
        url = urlsplit(self._config.otlp_endpoint)
        if self._connection is None:
            self._connection = _connection(url.scheme, url.hostname or "", url.port, self._config.timeout)
        headers = {**self._config.headers, "content-type": "application/x-protobuf"}
        path = (url.path or "/v1/traces") + (f"?{url.query}" if url.query else "")
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        answer.read(64 * 1024)
        if answer.will_close or not answer.isclosed():
            self._disconnect()
        return answer.status

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connection(scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def encoded(spans: Sequence[Span], resource: Mapping[str, Value]) -> bytes:
    """An ExportTraceServiceRequest."""
    # Only where traces are on: the messages of OTLP.
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415
    from opentelemetry.proto.common.v1 import common_pb2  # noqa: PLC0415
    from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: PLC0415

    def pairs(values: Mapping[str, Value]) -> list[Any]:
        return [common_pb2.KeyValue(key=key, value=_value(common_pb2, value)) for key, value in values.items()]

    request = trace_service_pb2.ExportTraceServiceRequest()
    whole = request.resource_spans.add()
    whole.resource.attributes.extend(pairs(resource))
    scope = whole.scope_spans.add()
    scope.scope.name = "portway"
    for span in spans:
        message = scope.spans.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id),
            name=span.name,
            kind=span.kind.value,
            start_time_unix_nano=span.start,
            end_time_unix_nano=max(span.start, span.end),
            attributes=pairs(span.attributes),
        )
        for link in span.links:
            message.links.add(trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id))
        if span.error:
            message.status.code = trace_pb2.Status.STATUS_CODE_ERROR
            message.status.message = span.error
    return request.SerializeToString()


def _value(common: Any, value: Value) -> Any:
    if isinstance(value, bool):
        return common.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common.AnyValue(int_value=value)
    if isinstance(value, float):
        return common.AnyValue(double_value=value)
    return common.AnyValue(string_value=value)


def unix_nanoseconds(monotonic: float) -> int:
    """A moment of the monotonic clock."""
    return time.time_ns() - round((time.monotonic() - monotonic) * 1e9)
