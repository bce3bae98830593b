"""The table of meanings, read in both directions."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from portway.rpc import errors
from portway.rpc.errors import FieldViolation, PortwayError, Quota, Reason, Resource
from portway.rpc.status import DETAILS_KEY, TABLE, error_from_rpc, to_wire

HEADER_LIMIT = 8192


def over_the_wire(error: PortwayError) -> PortwayError:
    wire = to_wire(error)
    return error_from_rpc(AioRpcError(wire.code, Metadata(), Metadata(*wire.trailers), wire.message))


@pytest.mark.parametrize("meaning", [meaning for meaning, _ in TABLE])
def test_every_meaning_arrives_as_itself(meaning: type[PortwayError]) -> None:
    arrived = over_the_wire(meaning("what happened"))
    assert type(arrived) is meaning
    assert arrived.message == "what happened"
    assert arrived.reason == meaning.default_reason


def test_every_meaning_is_in_the_table() -> None:
    meanings = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PortwayError)}
    assert meanings - {PortwayError} == {meaning for meaning, _ in TABLE}


def test_all_that_an_error_carries_arrives() -> None:
    arrived = over_the_wire(
        errors.LimitExceeded(
            "预算用完了",
            reason=Reason.BUDGET_EXHAUSTED,
            fields=[FieldViolation("a.b[0]", "is too much")],
            retry_after=2.5,
            resource=Resource("run", "run_1"),
            quota=Quota("agent x", "10 per day"),
            facts={"left": "0"},
        )
    )
    assert arrived.message == "预算用完了"
    assert arrived.reason is Reason.BUDGET_EXHAUSTED
    assert arrived.fields == (FieldViolation("a.b[0]", "is too much"),)
    assert arrived.retry_after == 2.5
    assert arrived.resource == Resource("run", "run_1")
    assert arrived.quota == Quota("agent x", "10 per day")
    assert arrived.facts == {"left": "0"}


def test_a_reason_of_a_newer_server_is_kept() -> None:
    arrived = over_the_wire(errors.Stale("moved on", reason="SOMETHING_NEW"))
    assert type(arrived) is errors.Stale
    assert arrived.reason == "SOMETHING_NEW"


def test_an_error_of_any_size_fits_into_the_trailers() -> None:
    huge = errors.InvalidInput(
        "很" * 10_000,
        fields=[FieldViolation("field" * 1000, "长" * 1000) for _ in range(1000)],
        facts={str(number): "很" * 1000 for number in range(100)},
        resource=Resource("run", "很" * 10_000),
    )
    wire = to_wire(huge)
    ((_, details),) = wire.trailers
    encoded = len(details) * 4 / 3 + sum(len(character.encode()) * 3 for character in wire.message)
    assert encoded < HEADER_LIMIT
    assert over_the_wire(huge).fields


def test_details_that_are_damaged_leave_the_meaning_of_the_code() -> None:
    damaged = AioRpcError(grpc.StatusCode.NOT_FOUND, Metadata(), Metadata((DETAILS_KEY, b"\xff\xff")), "gone")
    arrived = error_from_rpc(damaged)
    assert type(arrived) is errors.NotFound
    assert arrived.message == "gone"


def test_a_code_without_a_meaning_of_its_own_is_internal() -> None:
    assert type(error_from_rpc(AioRpcError(grpc.StatusCode.UNKNOWN, Metadata(), Metadata()))) is errors.InternalError


def test_a_subclass_has_the_code_of_its_meaning() -> None:
    class OutOfDisk(errors.LimitExceeded):
        pass

    assert to_wire(OutOfDisk("full")).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert to_wire(PortwayError("vague")).code is grpc.StatusCode.INTERNAL
