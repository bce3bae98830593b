"""Sections of HTML: the text that people see, under its headings."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from portway.runtime.sdk import Section

_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "head"})
_BLOCKS = frozenset(
    "address article aside blockquote dd div dl dt figcaption footer form header hr li main nav ol p pre section table "
    "tr ul br".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACES = re.compile(r"[ \t\r\f\v\xa0]+")
_LINES = re.compile(r" ?\n[ \n]*")


class _Reader(HTMLParser):
    """Never fails: what is no tag is text, and what is not closed ends with the file."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[Section] = []
        self.title = ""
        self._headings: list[str] = []
        self._text: list[str] = []
        self._heading: list[str] | None = None
        self._in_title = False
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = True
        elif tag == "body":
            # A head that was not closed ends here.
            self._unseen = 0
        elif tag in _UNSEEN:
            self._unseen += 1
        elif tag in _HEADINGS:
            self._flush()
            self._heading = []
        elif tag in _BLOCKS:
            self._text.append("\n")
        elif tag in ("td", "th"):
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _HEADINGS and self._heading is not None:
            level, title = _HEADINGS[tag], _tidy("".join(self._heading)).replace("\n", " ")
            self._headings = [*self._headings[: level - 1], *([title] if title else [])]
            self._heading = None
        elif tag in _BLOCKS:
            self._text.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = _tidy(self.title + data)[:1000]
        elif not self._unseen:
            (self._text if self._heading is None else self._heading).append(data)

    def finish(self) -> None:
        self.close()
        if self._heading is not None:
            self._text += self._heading
        self._flush()

    def _flush(self) -> None:
        text = _tidy("".join(self._text))
        self._text = []
        if text:
            about = {"title": self.title} if self.title else {}
            self.sections.append(Section(text, tuple(self._headings), metadata=about))


def html_sections(text: str) -> Iterator[Section]:
    reader = _Reader()
    reader.feed(text)
    reader.finish()
    yield from reader.sections


def _tidy(text: str) -> str:
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()
