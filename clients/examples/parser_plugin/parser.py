"""A parser: sections of Markdown, HTML and plain text, each under its headings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import PurePath

from html_text import html_sections
from plain_text import markdown_sections, text_sections

from portway.rpc.errors import InvalidInput
from portway.runtime.sdk import ComponentCall, IncomingDocument, Parser, Section

MAX_BYTES = 16 * 1024 * 1024
# A section is cut where it would be longer.
MAX_CHARACTERS = 100_000

_BY_TYPE: dict[str, Callable[[str], Iterator[Section]]] = {
    "text/markdown": markdown_sections,
    "text/html": html_sections,
    "application/xhtml+xml": html_sections,
    "text/plain": text_sections,
}
_BY_EXTENSION = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".txt": "text/plain",
}


class MarkupParser(Parser):
    async def parse(self, document: IncomingDocument, call: ComponentCall) -> AsyncIterator[Section]:
        read = _BY_TYPE[_type(document)]
        text = _decoded(await document.read(MAX_BYTES))
        # A hostile file takes a while; the process answers meanwhile.
        for section in await asyncio.to_thread(lambda: list(read(text))):
            for start in range(0, len(section.text), MAX_CHARACTERS):
                piece = section.text[start : start + MAX_CHARACTERS]
                yield Section(piece, section.headings, section.page, section.metadata)


def _type(document: IncomingDocument) -> str:
    """The media type, or what the name says where that is none of ours. Raises `InvalidInput`."""
    given = document.head.media_type.partition(";")[0].strip().lower()
    by_name = _BY_EXTENSION.get(PurePath(document.head.name).suffix.lower(), "")
    found = given if given in _BY_TYPE else by_name
    if not found:
        known = ", ".join(_BY_TYPE)
        raise InvalidInput.field("parse_document.media_type", f"{given or 'nothing'} is not read here, only {known}")
    return found


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if b"\0" in content[:4096]:
        raise InvalidInput.field("document", "is no text: it has bytes of zero")
    return content.decode("utf-8-sig", "replace")
