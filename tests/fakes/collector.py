"""A strict collector of traces: it takes what OTLP over HTTP allows, and keeps every span."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Seen:
    """A span, with ids in hexadecimal and attributes by name."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    error: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]


@dataclass
class FakeCollector:
    """`status` is what it answers; `key` is wanted in the header `x-key`."""

    url: str = ""
    key: str = "collector-key-0123456789"
    status: int = 200
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refused: int = 0
    violations: list[str] = field(default_factory=list)

    def take(self, path: str, headers: Any, body: bytes) -> int:
        if self.status != 200:
            self.refused += 1
            return self.status
        if path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
            self.violations.append(f"{path} with {headers.get('content-type')}")
            return 400
        if headers.get("x-key") != self.key:
            self.violations.append("a request without the key")
            return 401
        self.bodies.append(body)
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for whole in request.resource_spans:
            resource = {one.key: one.value.string_value for one in whole.resource.attributes}
            for span in (span for scope in whole.scope_spans for span in scope.spans):
                if len(span.trace_id) != 16 or len(span.span_id) != 8 or len(span.parent_span_id) not in (0, 8):
                    self.violations.append(f"{span.name} has ids of wrong lengths")
                if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
                    self.violations.append(f"{span.name} ends before it begins")
                self.spans.append(_seen(resource["service.name"], span))
        return 200

    async def until(self, *names: str) -> None:
        """Spans of all these names have come."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not set(names) <= {span.name for span in list(self.spans)}:  # noqa: ASYNC110 - a thread
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"of {names} only these came: {[span.name for span in self.spans]}") from None

    def one(self, name: str, **attributes: Any) -> Seen:
        """The only span of a name with these attributes."""
        wanted = {f"portway.{key}": value for key, value in attributes.items()}
        found = [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]
        assert len(found) == 1, (name, attributes, [(span.name, span.attributes) for span in self.spans])
        return found[0]


def _seen(service: str, span: Any) -> Seen:
    attributes = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return Seen(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        error=span.status.message if span.status.code == 2 else "",
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=attributes,
    )


@contextmanager
def serve_collector() -> Iterator[FakeCollector]:
    """Serves it on a free port; what was wrong with the requests fails the test at the end."""
    collector = FakeCollector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(collector.take(self.path, self.headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not collector.violations, collector.violations
