"""Times and numbers that can be written on the wire and be nothing."""

import math

import pytest
from google.protobuf.message import Message

from portway.rpc.errors import InvalidInput
from portway.rpc.validation import check
from portway.v1 import event_pb2, run_pull_pb2, token_pb2
from tests.server.hosting import a_message

LAST_SECOND = 253_402_300_799


def a_submit() -> event_pb2.SubmitEventRequest:
    return event_pb2.SubmitEventRequest(event=a_message(), idempotency_key="k")


def fields_of(message: Message) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        check(message)
    return [one.field for one in refused.value.fields]


@pytest.mark.parametrize(("seconds", "nanos"), [(LAST_SECOND + 1, 0), (-(2**63), 0), (0, -1), (0, 1_000_000_000)])
def test_a_timestamp_beyond_the_calendar_is_refused_by_its_field(seconds: int, nanos: int) -> None:
    request = a_submit()
    request.event.event_time.seconds, request.event.event_time.nanos = seconds, nanos
    assert fields_of(request) == ["event.event_time"]


@pytest.mark.parametrize(("seconds", "nanos"), [(LAST_SECOND, 999_999_999), (-62_135_596_800, 0), (0, 0)])
def test_the_first_and_the_last_moment_are_times(seconds: int, nanos: int) -> None:
    request = a_submit()
    request.event.event_time.seconds, request.event.event_time.nanos = seconds, nanos
    check(request)


@pytest.mark.parametrize(("seconds", "nanos"), [(315_576_000_001, 0), (1, -1), (-1, 1), (0, 2_000_000_000)])
def test_a_duration_that_is_none_is_refused_by_its_field(seconds: int, nanos: int) -> None:
    request = token_pb2.CreateTokenRequest(name="t", role=5)  # type: ignore[arg-type]  # numbers of the wire
    request.ttl.seconds, request.ttl.nanos = seconds, nanos
    assert "ttl" in fields_of(request)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_refused_where_it_is(number: float) -> None:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name="t")
    request.arguments.update({"a": {"b": [1.5, "x"]}})
    check(request)
    inside = request.arguments.fields["a"].struct_value.fields["b"].list_value.values
    inside.add().number_value = number
    assert fields_of(request) == [
        "arguments.fields['a'].struct_value.fields['b'].list_value.values[2]",
    ]
