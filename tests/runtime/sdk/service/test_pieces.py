"""The parts of the client for services that need no service."""

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.runtime.sdk.service import split_reasoning
from portway.runtime.sdk.service.events import (
    MAX_LINE_BYTES,
    EventReader,
    LineSplitter,
    ServerEvent,
    StreamUnreadable,
)
from portway.runtime.sdk.service.failures import refused
from portway.runtime.sdk.service.reasoning import ReasoningSplitter

STREAM = (
    "\ufeff: a comment\r\n\r\nevent: first\r\ndata: eins\r\ndata:zwei\r\nid: 4\r\n\r\n"
    "retry: 5\n\ndata: dräi\n\nevent: none\n\ndata\rdata: vier\r\r"
)
EVENTS = [ServerEvent("first", "eins\nzwei"), ServerEvent("message", "dräi"), ServerEvent("message", "\nvier")]


@given(st.integers(0, 2**32))
def test_events_are_the_same_however_their_bytes_are_cut(seed: int) -> None:
    chance, reader, raw = random.Random(seed), EventReader(), STREAM.encode()
    found = []
    while raw:
        size = chance.randint(1, 9)
        found += reader.feed(raw[:size])
        raw = raw[size:]
    assert [*found, *reader.finish()] == EVENTS


def test_a_last_event_without_its_empty_line_is_taken() -> None:
    reader = EventReader()
    assert reader.feed(b"data: all") == []
    assert reader.finish() == [ServerEvent("message", "all")]


def test_a_line_without_end_is_refused() -> None:
    splitter = LineSplitter()
    with pytest.raises(StreamUnreadable, match="longer"):
        for _ in range(MAX_LINE_BYTES // 65536 + 2):
            splitter.feed(b"x" * 65536)
    with pytest.raises(StreamUnreadable, match="UTF-8"):
        LineSplitter().feed(b"\xff\n")


@given(st.text(alphabet="<think>/ a", max_size=60), st.integers(1, 7))
def test_reasoning_is_told_apart_however_its_tags_are_cut(text: str, size: int) -> None:
    splitter = ReasoningSplitter()
    pieces = [one for start in range(0, len(text), size) for one in splitter.feed(text[start : start + size])]
    pieces += splitter.rest()
    whole = split_reasoning(text)
    assert "".join(piece for inside, piece in pieces if not inside) == whole[0]
    assert "".join(piece for inside, piece in pieces if inside) == whole[1]


def test_what_a_service_says_about_an_error_is_told_without_secrets() -> None:
    body = b'{"code": "unauthorized", "message": "the key app-12345678 is\\nnot known"}'
    failure = refused("Dify", 401, body, ("app-12345678",))
    assert failure.code == "service.auth"
    assert "app-12345678" not in str(failure) and "***" in failure.error.message
    assert "\n" not in failure.error.message
    assert refused("Dify", 418, b"<html>", ()).code == "service.bad_request"


def test_the_sdk_loads_no_http_library() -> None:
    code = "import sys, portway.runtime.sdk; print({'httpx', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
