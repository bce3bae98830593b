"""Sections of Markdown and of plain text."""

import re
from collections.abc import Iterator

from portway.runtime.sdk import Section

_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*")
_FENCE = re.compile(r"[ ]{0,3}(```+|~~~+)")
_UNDERLINE = re.compile(r"(=+|-+)[ \t]*")


def text_sections(text: str) -> Iterator[Section]:
    """A section for each page: pages are divided by form feeds."""
    pages = text.split("\f")
    for number, page in enumerate(pages, 1):
        if page.strip():
            yield Section(page.strip(), page=number if len(pages) > 1 else 0)


def markdown_sections(text: str) -> Iterator[Section]:
    """A section for each heading; what looks like one in a block of code is none."""
    headings: list[str] = []
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1][0] == fence[0] and len(mark[1]) >= len(fence):
            fence = ""
        level, title = (0, "") if fence or mark else _heading(line, lines)
        if not level:
            lines.append(line)
            continue
        yield from _section(lines, headings)
        headings = [*headings[: level - 1], title]
        lines = []
    yield from _section(lines, headings)


def _heading(line: str, before: list[str]) -> tuple[int, str]:
    """Level and title; 0 for a line that is no heading. The title of an underlined one is taken from `before`."""
    found = _HEADING.fullmatch(line)
    if found:
        return len(found[1]), found[2]
    above = before[-1].strip() if before else ""
    begins = len(before) == 1 or (len(before) > 1 and not before[-2].strip())
    if above and begins and _UNDERLINE.fullmatch(line):
        before.pop()
        return (1 if line[0] == "=" else 2), above
    return 0, ""


def _section(lines: list[str], headings: list[str]) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if text:
        yield Section(text, tuple(headings))
