"""Following the audit as it grows."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from portway.server.audit.store import Audit
from portway.server.audit.types import AuditFilter, AuditRecord

BATCH = 64


@dataclass(frozen=True, slots=True)
class Missing:
    """Records that will not come; the next one follows the sequence `resume`. `dropped`: by retention."""

    resume: int
    count: int
    dropped: bool


# Records are written by many hands, some in the transaction of what they tell of: the end of the log is asked for.
LOOK_EVERY = 0.25


async def watch_audit(
    audit: Audit, workspace_id: str, which: AuditFilter, after: int | None, draining: asyncio.Event
) -> AsyncGenerator[list[AuditRecord] | Missing, None]:
    """Records after a sequence (None: only new ones), then new ones, in order and at most BATCH at once.

    What will not come is said first: records that retention dropped, or a place that the log has not reached, because
    the host was restored from a backup of before. Ends when the host stops.
    """
    latest = await audit.latest_sequence(workspace_id)
    seen = latest if after is None else after
    if seen > latest:
        seen = latest
        yield Missing(latest, 0, dropped=False)
    elif seen < latest:
        kept = min(await audit.oldest_sequence(workspace_id) or latest + 1, latest + 1)
        if kept > seen + 1:
            missing, seen = kept - 1 - seen, kept - 1
            yield Missing(seen, missing, dropped=True)
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
