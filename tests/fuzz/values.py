"""Single values: ordinary ones, those at a limit or just past it, and what nobody expects."""

import math
import re
from random import Random
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor

from portway.vendored.buf.validate import validate_pb2

LONGEST = 70_000
"""Of texts and byte strings whose rules allow more: limits are to be tried, not the memory of this machine."""

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\n\r\t\x1b[31m\x7f",
    "e\u0301\u0301\u0301\u0301" * 5,
    "\u202eabc\u202c\u2066x\u2069",
    "\U0001f469\u200d\U0001f469\u200d\U0001f466 \U0001f1e9\U0001f1ea \U00010ffff",
    "\ufeff\u200b\u00a0\u2028\u2029\ufffd\uffff",
    "İıſßΣς",
    "../../etc/passwd",
    "/",
    "//..//.",
    "%00%2e%2e/",
    "'; DROP TABLE runs; --",
    '" OR 1=1 --',
    "NEAR(a AND (",
    '"unclosed',
    "*",
    "a* OR NOT",
    "${HOME} $(id) `id`",
    "{{x}} {0} %s %n",
    "<script>alert(1)</script>",
    "[" * 200,
    "(a+)+$",
    "(?<name>",
    "**/" * 40,
    "-1",
    "0",
    "1e309",
    "NaN",
    "null",
    "99999999999999999999999999",
    "2026-13-45T99:99:99Z",
    "* * * * *",
    "60 24 32 13 8",
    "0 0 30 2 *",
    "Europe/Berlin",
    "Mars/Olympus",
    "https://127.0.0.1:1/",
    "http://[::1",
    "http://user:pass@example.com:99999/\r\nx: y",
    "plugin:tests/fake/runner",
    "message.received",
    "application/octet-stream",
    "text/plain; charset=\U0001f4a9",
    "default",
    "assistant",
)
_MANY = (0, 1, 2, 7, 100)
_INT_ODD = (0, 1, -1, 2, 100, 1000, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_INT_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_INT_RULES = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-300, 1e308, -1e308, math.inf, -math.inf, math.nan)
# The first and last second of protobuf's times, and what is past them.
_SECONDS = (0, 1, -1, -62_135_596_800, 253_402_300_799, 253_402_300_800, -(2**63), 2**63 - 1, 1_800_000_000)
_NANOS = (0, 1, 999_999_999, 1_000_000_000, -1, -999_999_999, 2**31 - 1)
_LENGTHS = (3600, 1, 0, 60, 86_400, -1, 315_576_000_000, 315_576_000_001, -(2**63))


def rules_of(field: FieldDescriptor) -> Any:
    """What the contract says of a field; an empty set of rules where it says nothing."""
    return field.GetOptions().Extensions[validate_pb2.field]


def text_of_length(random: Random, length: int) -> str:
    return random.choice(("x", "ab ", "é", "\U0001f600"))[:1] * length


def fit(random: Random, rules: Any) -> str:
    """A text that keeps the rules, as far as they are of the simple kind."""
    if rules.pattern:
        return _of_pattern(random, rules.pattern)
    least, most = rules.min_len or rules.len, rules.max_len or rules.max_bytes // 4 or LONGEST
    sizes = [least, min(most, LONGEST), *(size for size in (*_MANY, 12) if least <= size <= most)]
    if random.random() < 0.6:
        fitting = [text for text in ODD_TEXTS if least <= len(text) <= most]
        if fitting:
            return random.choice(fitting)
    return text_of_length(random, random.choice(sizes))


def _of_pattern(random: Random, pattern: str) -> str:
    guesses = ("a", "a-1", "message.received", "x.y", "A0", "", "abc_1", "a" * 60)
    fitting = [guess for guess in guesses if re.search(pattern, guess)]
    return random.choice(fitting or list(guesses))


def past(random: Random, rules: Any) -> str:
    """A text that breaks a rule, if there is one to break."""
    choices = [random.choice(ODD_TEXTS)]
    if rules.max_len:
        choices.append("x" * (rules.max_len + 1))
    if rules.max_bytes:
        choices.append("x" * (rules.max_bytes + 1))
    if rules.min_len:
        choices.append("x" * (rules.min_len - 1))
    return random.choice(choices)


def number(random: Random, field: FieldDescriptor, *, broken: bool) -> int:
    low, high = _INT_BOUNDS[field.cpp_type]
    rules = getattr(rules_of(field), _INT_RULES[field.cpp_type])
    least, most = low, high
    if rules.HasField("gte"):
        least = rules.gte
    elif rules.HasField("gt"):
        least = rules.gt + 1
    if rules.HasField("lte"):
        most = rules.lte
    elif rules.HasField("lt"):
        most = rules.lt - 1
    if broken:
        return max(low, min(high, random.choice((least - 1, most + 1, *_INT_ODD))))
    return max(least, min(most, random.choice((least, most, 1, 2, 10, *_INT_ODD))))


def real(random: Random) -> float:
    return random.choice(_FLOATS)


def of_enum(random: Random, field: FieldDescriptor, *, broken: bool) -> int:
    if broken or random.random() < 0.03:
        return random.choice((-1, 9999, 2**31 - 1, 0))
    assert field.enum_type is not None
    return random.choice(field.enum_type.values).number


def some_bytes(random: Random, rules: Any, *, broken: bool) -> bytes:
    most = rules.max_len or LONGEST
    if broken and rules.max_len:
        return b"\0" * (min(most, 3 << 20) + 1)
    return random.choice((b"", b"\0", b"\xff\xfe\xfd", b"PK\x03\x04", b"hello", random.randbytes(min(most, 64))))


def time_of(random: Random, message: Any) -> None:
    message.seconds, message.nanos = random.choice(_SECONDS), random.choice(_NANOS)


def length_of(random: Random, message: Any) -> None:
    message.seconds = random.choice(_LENGTHS)
    message.nanos = random.choice((0, 0, 0, *_NANOS))


def tree(random: Random, message: struct_pb2.Struct) -> None:
    """A small tree, a deep one, or a wide one."""
    kind = random.random()
    if kind < 0.15:
        inner = message
        for _ in range(random.choice((5, 15, 30))):
            inner = inner.fields["a"].struct_value
        inner.fields["end"].number_value = 1
    elif kind < 0.25:
        message.update({f"key {index}": index for index in range(random.choice((65, 300, 2000)))})
    else:
        names = ("", "a", "api_key", "prompt", "rounds", "model", "mood", "type", "properties", "\0", "$ref")
        for name in random.sample(names, random.randint(0, 4)):
            leaf(random, message.fields[name], 3)


def leaf(random: Random, value: struct_pb2.Value, depth: int) -> None:
    match random.randint(0, 7):
        case 0:
            value.null_value = struct_pb2.NULL_VALUE
        case 1:
            value.number_value = real(random)
        case 2:
            value.bool_value = random.random() < 0.5
        case 3 if depth:
            for _ in range(random.randint(0, 3)):
                leaf(random, value.list_value.values.add(), depth - 1)
        case 4 if depth:
            leaf(random, value.struct_value.fields[random.choice(ODD_TEXTS)], depth - 1)
        case 5:
            # A value without a kind: not valid, and parsers let it through.
            pass
        case _:
            value.string_value = random.choice(ODD_TEXTS)
