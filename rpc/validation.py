"""Parsing and checking of what arrives, by the rules of the contract (protovalidate and its native engine)."""

from collections.abc import Callable
from typing import TypeVar

import protovalidate
from google.protobuf.message import DecodeError, Message

from portway.rpc.errors import FieldViolation, InvalidInput, Reason
from portway.rpc.well_known import not_well_known

M = TypeVar("M", bound=Message)

# Rules are compiled once per message type and kept inside.
_validator = protovalidate.Validator()


def parse(message_class: Callable[[], M], raw: bytes) -> M:
    """The message in `raw`. Raises `InvalidInput` for bytes that are none, without the parser's own words."""
    message = message_class()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise InvalidInput(
            f"the request is not a {message.DESCRIPTOR.full_name}", reason=Reason.UNPARSABLE_MESSAGE
        ) from None
    return message


def check(message: Message) -> None:
    """Raises `InvalidInput` with one violation for each broken rule, and for each time or number that is none."""
    broken = _validator.collect_violations(message)
    strange = list(not_well_known(message))
    if broken or strange:
        fields = [*(_violation(one) for one in broken), *strange]
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in fields[:3]), fields=fields)


def _violation(violation: protovalidate.Violation) -> FieldViolation:
    found = violation.proto
    path = "".join(_step(element) for element in found.field.elements) if found.field else ""
    return FieldViolation(path.lstrip(".") or "(message)", found.message or found.rule_id or "is not valid")


def _step(element: protovalidate.FieldPathElementPb) -> str:
    subscript = element.subscript
    return f".{element.field_name}" if subscript is None else f".{element.field_name}[{subscript.value!r}]"
