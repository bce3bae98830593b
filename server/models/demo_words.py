"""How the demo models compare texts: by the words that they share."""

from __future__ import annotations

import hashlib
import math
import re

DIMENSIONS = 64


def vector_of(text: str, dimensions: int) -> tuple[float, ...]:
    """A vector of length 1 in which each word has its own place; the same for the same text."""
    values = [0.0] * dimensions
    for word in _words(text):
        digest = hashlib.sha256(word.encode()).digest()
        values[int.from_bytes(digest[:8], "big") % dimensions] += 1.0 if digest[8] % 2 else -1.0
    length = math.sqrt(sum(value * value for value in values))
    return tuple(value / length for value in values) if length else (1.0, *values[1:])


def score_of(query: str, document: str) -> float:
    """The share of the query's words that the document holds, from 0 to 1."""
    wanted, there = set(_words(query)), set(_words(document))
    return len(wanted & there) / len(wanted) if wanted else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
