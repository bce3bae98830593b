"""Paying for what a run does: room is kept before, what was used is charged after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portway.server.runner_calls.scope import RunScope
from portway.server.spending.types import Amounts

ONE_CALL = Amounts(calls=1)


@asynccontextmanager
async def paid(run: RunScope, amounts: Amounts) -> AsyncIterator[None]:
    """For what is known before it is done. It counts also where it fails: it may have happened.

    Raises LimitExceeded (BUDGET_EXHAUSTED), and the run ends with it.
    """
    hold = await run.meter.hold(amounts)
    try:
        yield
    finally:
        hold.settle(amounts)


async def pay_bytes(run: RunScope, size: int) -> None:
    """Bytes that are about to be kept. Raises LimitExceeded (BUDGET_EXHAUSTED), and the run ends with it."""
    amounts = Amounts(bytes=size)
    (await run.meter.hold(amounts)).settle(amounts)
