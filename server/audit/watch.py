"""Following the audit as it grows."""

import asyncio
from collections.abc import AsyncGenerator

from portway.server.audit.store import Audit
from portway.server.audit.types import AuditFilter, AuditRecord

BATCH = 64
# Records are written by many hands, some in the transaction of what they tell of: the end of the log is asked for.
LOOK_EVERY = 0.25


async def watch_audit(
    audit: Audit, workspace_id: str, which: AuditFilter, after: int | None, draining: asyncio.Event
) -> AsyncGenerator[list[AuditRecord], None]:
    """Records after a sequence (None: only new ones), then new ones, in order and at most BATCH at once.

    Ends when the host stops.
    """
    seen = await audit.latest_sequence(workspace_id) if after is None else after
    while not draining.is_set():
        until = min(await audit.latest_sequence(workspace_id), seen + BATCH)
        if until <= seen:
            await _pause(draining)
            continue
        found = await audit.follow(workspace_id, which, seen, until)
        seen = until
        if found:
            yield found


async def _pause(draining: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_EVERY):
            await draining.wait()
    except TimeoutError:
        return
