"""Nothing may be left of what has ended: a leak is an item of ListOwned, and fails the test."""

import asyncio
from collections.abc import Collection
from typing import Any

from portway.rpc.errors import NotFound
from portway.rpc.status import errors_by_meaning
from portway.v1 import run_pb2

PATIENCE = 60.0
# What is there while work is done, and gone after it.
WORK = frozenset({"run", "attempt", "token", "steer", "effect", "session_use", "call", "upload"})


async def owned(runs: Any, **owner: str) -> list[run_pb2.OwnedItem]:
    """Every page. `owner` is `run_id`, `session_id` or `conversation_id`; none: the workspace."""
    request = run_pb2.ListOwnedRequest(page_size=200, **owner)
    found: list[run_pb2.OwnedItem] = []
    with errors_by_meaning():
        while True:
            page = await runs.ListOwned(request)
            assert not page.unlisted, page.unlisted
            found += page.items
            request.page_token = page.next_page_token
            if not request.page_token:
                return found


async def assert_nothing_owned(runs: Any, kinds: Collection[str] = (), **owner: str) -> None:
    """Of these kinds (all, if none is named). What ends after its answer was seen is waited for; a leak never ends."""
    left: list[run_pb2.OwnedItem] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                left = [item for item in await owned(runs, **owner) if not kinds or item.kind in kinds]
                if not left:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        told = [f"{item.kind} {item.id} of {item.owner_id}: {item.state}" for item in left]
        raise AssertionError(f"{owner or 'the workspace'} still holds {told}") from None


async def assert_no_work_left(runs: Any) -> None:
    """Of the workspace, at the end of a test: its runs have ended, or are ended now, and with them all they held."""
    with errors_by_meaning():
        for item in await owned(runs):
            if item.kind == "run":
                # It may end by itself meanwhile; a run that a test left is ended, and must leave nothing then either.
                try:
                    await runs.CancelRun(run_pb2.CancelRunRequest(run_id=item.id, reason="the test is over"))
                except NotFound:
                    continue
    await assert_nothing_owned(runs, WORK)
