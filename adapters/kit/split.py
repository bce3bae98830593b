"""Texts cut to the size that a platform takes, in the unit that it counts.

Cuts lie where a reader expects them: between paragraphs, lines, sentences, words; only where nothing else fits inside a
word, and never inside a character as people see it. A block of code that fits into one message is not cut; a longer one
is closed at the end of a message and opened again in the next.
"""

from collections.abc import Callable, Iterator

import regex

from portway.adapters.kit.types import SizeUnit

SMALLEST_LIMIT = 64

_MEASURES: dict[SizeUnit, Callable[[str], int]] = {
    SizeUnit.CHARACTERS: len,
    SizeUnit.UTF16: lambda text: len(text) + sum(character > "\uffff" for character in text),
    SizeUnit.BYTES: lambda text: len(text.encode("utf-8", "surrogatepass")),
}
_FENCE = regex.compile(r"^ {0,3}(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$")
_SENTENCE_END = regex.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
_SPACE = regex.compile(r"\s+")
_GRAPHEME = regex.compile(r"\X")


def split(text: str, limit: int, unit: SizeUnit) -> list[str]:
    """Pieces of at most `limit` units; one piece, perhaps empty, where the text fits."""
    if limit < SMALLEST_LIMIT:
        raise ValueError(f"a limit of {limit} leaves no room for a text; {SMALLEST_LIMIT} is the least")
    measure = _MEASURES[unit]
    if measure(text) <= limit:
        return [text]
    pieces: list[str] = []
    for block in _blocks(text):
        room = limit - measure(pieces[-1]) - 1 if pieces else 0
        if pieces and measure(block) <= room:
            pieces[-1] = f"{pieces[-1]}\n{block}"
        elif measure(block) <= limit:
            pieces.append(block)
        elif _FENCE.match(block.split("\n", 1)[0]):
            pieces.extend(_split_code(block, limit, measure))
        else:
            pieces.extend(_split_prose(block, limit, measure))
    return [piece for piece in (piece.strip("\n") for piece in pieces) if piece.strip()] or [""]


def _blocks(text: str) -> Iterator[str]:
    """Whole blocks of code, and the lines between them."""
    code: list[str] = []
    mark = ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if mark:
            code.append(line)
            if fence and fence["mark"].startswith(mark) and not fence["info"].strip():
                yield "\n".join(code)
                code, mark = [], ""
        elif fence and not (fence["mark"][0] == "`" and "`" in fence["info"]):
            code, mark = [line], fence["mark"]
        else:
            yield line
    if code:
        yield "\n".join(code)


def _split_code(block: str, limit: int, measure: Callable[[str], int]) -> Iterator[str]:
    lines = block.split("\n")
    opening, mark = lines[0], _mark_of(lines[0])
    closed = len(lines) > 1 and _closes(lines[-1], mark)
    body = lines[1:-1] if closed else lines[1:]
    if measure(f"{opening}\n\n{mark}") > limit // 2:
        # Whatever stands behind the marks is longer than a language's name: it is not repeated.
        opening = mark
    room = limit - measure(f"{opening}\n\n{mark}")
    held: list[str] = []
    for line in body:
        for part in _hard_cut(line, room, measure):
            if held and measure("\n".join([*held, part])) > room:
                yield "\n".join([opening, *held, mark])
                held = []
            held.append(part)
    if held:
        yield "\n".join([opening, *held, mark])


def _mark_of(line: str) -> str:
    fence = _FENCE.match(line)
    return str(fence["mark"]) if fence else "```"


def _closes(line: str, mark: str) -> bool:
    fence = _FENCE.match(line)
    return fence is not None and fence["mark"].startswith(mark) and not fence["info"].strip()


def _split_prose(line: str, limit: int, measure: Callable[[str], int]) -> Iterator[str]:
    rest = line
    while measure(rest) > limit:
        head = next(_hard_cut(rest, limit, measure))
        cut = _good_cut(head, rest[len(head) :])
        yield rest[:cut].rstrip()
        rest = rest[cut:].lstrip()
    if rest:
        yield rest


def _good_cut(head: str, tail: str) -> int:
    """Where to cut at or before the end of `head`: the last sentence or word that ends in its second half."""
    if tail[:1].isspace():
        return len(head)
    for pattern in (_SENTENCE_END, _SPACE):
        cuts = [match.end() for match in pattern.finditer(head) if len(head) // 2 < match.end() < len(head)]
        if cuts:
            return cuts[-1]
    return len(head)


def _hard_cut(text: str, limit: int, measure: Callable[[str], int]) -> Iterator[str]:
    """Parts of at most `limit`, cut between characters as people see them."""
    if measure(text) <= limit:
        yield text
        return
    part: list[str] = []
    size = 0
    for cluster in _clusters(text, limit, measure):
        length = measure(cluster)
        if size + length > limit:
            yield "".join(part)
            part, size = [], 0
        part.append(cluster)
        size += length
    if part:
        yield "".join(part)


def _clusters(text: str, limit: int, measure: Callable[[str], int]) -> Iterator[str]:
    """Characters as people see them. One that is longer than a whole message (nobody writes such) is taken apart."""
    for match in _GRAPHEME.finditer(text):
        cluster = match[0]
        if measure(cluster) <= limit:
            yield cluster
        else:
            yield from cluster
