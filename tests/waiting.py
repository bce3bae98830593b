"""Waiting for what another task or process is about to do."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

# Only there to end a hang: a loaded machine may well be ten times slower than this one.
PATIENCE = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds; a test whose condition never does fails with a timeout."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of the test
            await asyncio.sleep(0.001)


async def until_told(question: Callable[[], Awaitable[bool]]) -> None:
    """The same where somebody has to be asked."""
    async with asyncio.timeout(PATIENCE):
        while not await question():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)


def size_of(file: Path) -> int:
    """Bytes in it; 0 where there is none, or none any more: who looks twice races with who removes."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def text_of(file: Path) -> str:
    """What is in it by now; nothing where there is none."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
