"""Logs: what stands in a line, what never does, and that writing them holds nobody up."""

import io
import logging
import threading

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from portway.rpc.errors import RateLimited
from portway.rpc.limits import TokenBuckets
from portway.rpc.log_writer import MAX_EVENTS, LogWriter
from portway.rpc.redaction import is_secret_key, redact_text
from portway.rpc.telemetry import Trace, bound, configure_logging, safe_text, tracing
from portway.rpc.tokens import mint_token
from tests.rpc.logs import Logs


def test_a_line_carries_what_is_bound_and_its_trace(logs: Logs) -> None:
    with tracing(Trace()) as trace, bound(run_id="run_1"):
        structlog.get_logger().info("accepted", count=3)
    structlog.get_logger().info("outside")
    inside, outside = logs.lines()
    assert inside["event"] == "accepted"
    assert (inside["run_id"], inside["trace_id"], inside["count"]) == ("run_1", trace.trace_id, 3)
    assert (inside["service"], inside["level"]) == ("test", "info")
    assert "run_id" not in outside
    assert "trace_id" not in outside


def test_lines_below_the_level_are_not_written(logs: Logs) -> None:
    structlog.get_logger().debug("detail")
    assert logs.lines() == []


def test_warnings_of_libraries_are_written_alike_and_their_chatter_is_not(logs: Logs) -> None:
    logging.getLogger("some.library").warning("it said %s", mint_token("admin").text)
    logging.getLogger("some.library").info("chatter")
    (line,) = logs.lines()
    assert line["event"].startswith("it said pw_admin_")
    assert line["event"].endswith("***")


def test_an_error_is_written_before_the_caller_goes_on() -> None:
    stream = io.StringIO()
    configure_logging("test", stream=stream)
    structlog.get_logger().error("last words")
    assert "last words" in stream.getvalue()
    structlog.reset_defaults()


def test_secrets_are_hidden_by_name_and_by_look_wherever_they_stand(logs: Logs) -> None:
    token = mint_token("run").text
    log = structlog.get_logger()
    log.info("by name", api_key="abc", headers={"Authorization": "abc", "nested": [{"clientSecret": "abc"}]})
    log.info("by look", text=f"Bearer {token}", url="postgresql://user:abc@db/x", key_id="k1", output_tokens=7)
    log.info(f"in the words {token}")
    try:
        raise ValueError(f"in a message {token}")
    except ValueError:
        log.exception("with a cause")
    assert "abc" not in logs.text()
    assert token not in logs.text()
    look = logs.lines()[1]
    assert (look["key_id"], look["output_tokens"]) == ("k1", 7)


@pytest.mark.parametrize("key", ["token", "api_key", "apiKey", "X-Api-Key", "PASSWORD", "client_secret", "Set-Cookie"])
def test_names_of_secrets_are_known(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["token_id", "key_id", "output_tokens", "page_token", "idempotency_key", "monkey", "event"]
)
def test_harmless_names_are_known(key: str) -> None:
    assert not is_secret_key(key)


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_token_survives_whatever_stands_around_it(before: str, after: str) -> None:
    token = mint_token("admin").text
    secret = token.rpartition("_")[2]
    assert secret not in redact_text(f"{before} {token} {after}")


def test_an_exception_is_told_without_its_secrets() -> None:
    assert safe_text(ValueError("Bearer abcdefghijkl")) == "ValueError: Bearer ***"


def test_a_trace_goes_on_in_what_is_called_and_who_records_nothing_passes_the_parent_on() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    trace = Trace((("traceparent", parent),))
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert trace.traceparent() == parent
    assert trace.child("00f067aa0ba902b7").traceparent() == "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


def test_a_parent_that_nobody_records_is_none_and_a_new_trace_says_so_too() -> None:
    trace = Trace((("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),))
    assert (trace.trace_id, trace.span_id) == ("0af7651916cd43dd8448eb211c80319c", "")
    assert Trace().traceparent().endswith("-00")


class Stuck(io.StringIO):
    """A stream whose reader does not read until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.let_go.wait(10)
        return super().write(text)


def test_a_reader_that_does_not_read_holds_up_nobody_and_what_is_dropped_is_counted() -> None:
    stream = Stuck()
    writer = LogWriter(stream, lambda event: f"{event}\n")
    writer.put("first\n")
    assert stream.entered.wait(10)
    for _ in range(MAX_EVENTS + 5):
        writer.put("line\n")
    stream.let_go.set()
    writer.flush()
    text = stream.getvalue()
    assert text.startswith("first\n")
    assert text.count("line\n") == MAX_EVENTS
    assert "'count': 5" in text


def test_an_event_that_cannot_be_rendered_does_not_end_the_log() -> None:
    stream = io.StringIO()

    def render(event: dict[str, object]) -> str:
        if event.get("event") == "bad":
            raise ValueError("no text")
        return f"{event}\n"

    writer = LogWriter(stream, render)
    writer.put({"event": "bad"})
    writer.put({"event": "good"})
    writer.flush()
    assert "could not be rendered" in stream.getvalue()
    assert "good" in stream.getvalue()


def test_a_bucket_fills_with_time_and_forgets_the_least_recent_principal() -> None:
    now = 0.0
    buckets = TokenBuckets(rate=2, burst=2, capacity=2, clock=lambda: now)
    buckets.take("a")
    buckets.take("a")
    with pytest.raises(RateLimited) as refused:
        buckets.take("a")
    assert refused.value.retry_after == 0.5
    now = 0.5
    buckets.take("a")
    buckets.take("b")
    buckets.take("c")
    buckets.take("a")
    with pytest.raises(RateLimited):
        for _ in range(3):
            buckets.take("a")
