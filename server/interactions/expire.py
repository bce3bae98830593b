"""Questions and approvals whose time is over are closed, and people see it."""

import asyncio

import structlog

from portway.rpc.errors import PortwayError
from portway.rpc.telemetry import safe_text
from portway.server.approvals.decide import Decisions
from portway.server.approvals.store import Approvals
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.types import Delivery
from portway.server.interactions.close import Close, close_question
from portway.server.interactions.store import Interactions, expire_interactions
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import interaction_pb2

EVERY_SECONDS = 5.0
BATCH = 200


class Expiry:
    """`run` looks every few seconds; nothing is written where nothing is due."""

    def __init__(
        self,
        writer: Writer,
        interactions: Interactions,
        approvals: Approvals,
        decisions: Decisions,
        outbox: Outbox,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._writer = writer
        self._interactions = interactions
        self._approvals = approvals
        self._decisions = decisions
        self._outbox = outbox
        self._every = every
        self._log = structlog.get_logger("portway.host.interactions")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep()
            except PortwayError as error:
                self._log.warning("questions could not be closed yet", reason=safe_text(error))
            await asyncio.sleep(self._every)

    async def sweep(self) -> None:
        """Close what is due now."""
        if _is_due(await self._interactions.due()):
            for edit in await self._writer.run(_expire):
                self._outbox.wake(edit)
        if _is_due(await self._approvals.due()):
            await self._decisions.expire_due()


def _is_due(time: int) -> bool:
    return 0 < time <= now()


def _expire(tx: Transaction) -> list[Delivery]:
    close = Close(interaction_pb2.INTERACTION_STATE_EXPIRED)
    edits = [close_question(tx, one, close) for one in expire_interactions(tx, BATCH)]
    return [edit for edit in edits if edit is not None]
