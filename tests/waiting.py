"""Waiting for what another task or process is about to do."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 20.0


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
