"""Identifiers: a typed prefix and a UUIDv7 in hexadecimal, such as `run_0193…`. Opaque, never used for order."""

import hashlib
import os
import time

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 64
_RANDOM_B = (1 << 62) - 1


def new_id(prefix: str) -> str:
    """A new id for `prefix` (`run`, `evt`, …); 74 of its bits are random."""
    milliseconds = (time.time_ns() // 1_000_000) & 0xFFFF_FFFF_FFFF
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | _VERSION_7 | random & _RANDOM_A | _VARIANT | random & _RANDOM_B
    return f"{prefix}_{value:032x}"


def derived_id(prefix: str, *names: str) -> str:
    """The same id for the same names: what a request that is sent twice makes, so that the second finds the first."""
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()
    return f"{prefix}_{digest[:32]}"


def has_prefix(identifier: str, prefix: str) -> bool:
    """Whether `identifier` has the form of an id of this prefix; says nothing about whether it exists."""
    head, _, digits = identifier.rpartition("_")
    return head == prefix and len(digits) == 32 and all(character in "0123456789abcdef" for character in digits)
