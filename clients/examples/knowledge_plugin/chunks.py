"""Cuts texts into chunks: at the ends of paragraphs, else of sentences, else of words, else anywhere."""

import re
from collections.abc import Iterator

_ENDS = (re.compile(r"\n\s*\n"), re.compile(r"\n|(?<=[.!?。！？])\s*"), re.compile(r"\s+"))


def chunks_of(text: str, size: int) -> Iterator[str]:
    """Chunks of at most `size` characters, without the spaces around them; none of an empty text."""
    rest = text.strip()
    while len(rest) > size:
        end = _end(rest, size)
        yield rest[:end].strip()
        rest = rest[end:].strip()
    if rest:
        yield rest


def _end(text: str, size: int) -> int:
    """The last good end in the second half of what fits."""
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, size // 2, size) if match.end()]
        if ends:
            return ends[-1]
    return size
