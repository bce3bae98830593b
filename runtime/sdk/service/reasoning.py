"""Reasoning that a service writes into its text between `<think>` and `</think>`."""

from collections.abc import Iterator

_BEGIN, _END = "<think>", "</think>"


class ReasoningSplitter:
    """Tells text and reasoning apart, however the tags are cut."""

    def __init__(self) -> None:
        self._inside = False
        self._held = ""

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """Pieces with whether they are reasoning."""
        self._held += text
        while self._held:
            tag = _END if self._inside else _BEGIN
            before, found, after = self._held.partition(tag)
            if not found:
                keep = _beginning_of(tag, self._held)
                before, after = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            if before:
                yield self._inside, before
            self._held = after
            if not found:
                return
            self._inside = not self._inside

    def rest(self) -> Iterator[tuple[bool, str]]:
        """What was held back because it looked like the beginning of a tag."""
        if self._held:
            yield self._inside, self._held
        self._held = ""


def split_reasoning(text: str) -> tuple[str, str]:
    """Text and reasoning of a whole answer."""
    splitter = ReasoningSplitter()
    pieces = [*splitter.feed(text), *splitter.rest()]
    return "".join(one for inside, one in pieces if not inside), "".join(one for inside, one in pieces if inside)


def _beginning_of(tag: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)
