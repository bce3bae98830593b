"""Waiting for one of several things."""

import asyncio


async def either(*events: asyncio.Event) -> None:
    """Returns when one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
