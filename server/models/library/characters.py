"""Whole characters: some providers cut text between the two halves of a character, or send one half alone."""


class Halves:
    """The pieces of one text. A first half at the end of a piece waits for the second."""

    def __init__(self) -> None:
        self._held = ""

    def joined(self, piece: str) -> str:
        """What can be passed on; a half that has no other becomes U+FFFD."""
        text, self._held = self._held + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return whole(text)


def whole(text: str) -> str:
    """`text` as every wire format takes it. Nearly every text is that already."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
