"""What a model says, told apart from what it thinks, where it writes both into its text."""

from collections.abc import Iterator

_BEGIN, _END = "<think>", "</think>"


class Speech:
    """The text of one answer. Reasoning is only what it begins with, between tags: later ones are spoken of."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._spoken = False

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """Pieces with whether they are reasoning."""
        if self._spoken:
            yield False, text
            return
        self._held += text
        if not self._thinking:
            yield from self._begin()
        if self._thinking:
            yield from self._think()

    def rest(self) -> Iterator[tuple[bool, str]]:
        """What was held back because it looked like the beginning of a tag."""
        if self._held:
            yield self._thinking, self._held
        self._held = ""

    def _begin(self) -> Iterator[tuple[bool, str]]:
        begun = self._held.lstrip()
        if begun.startswith(_BEGIN):
            self._thinking, self._held = True, begun[len(_BEGIN) :]
        elif not _BEGIN.startswith(begun):
            self._spoken, text, self._held = True, self._held, ""
            yield False, text

    def _think(self) -> Iterator[tuple[bool, str]]:
        thought, found, said = self._held.partition(_END)
        if not found:
            keep = _beginning_of(_END, self._held)
            thought, said = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._held = said
        if thought:
            yield True, thought
        if found:
            self._spoken, self._thinking, self._held = True, False, ""
            # The empty lines between reasoning and text belong to neither.
            if said := said.lstrip("\n"):
                yield False, said


def _beginning_of(tag: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)
