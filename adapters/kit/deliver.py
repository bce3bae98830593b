"""Deliveries: one at a time in each conversation, each with one effect, each with exactly one outcome told."""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from portway.adapters.kit.ledger import SentLedger
from portway.adapters.kit.platform import Platform, Refused, RetryLater, SendError, Sent
from portway.adapters.kit.split import split
from portway.adapters.kit.types import Outbound, Outcome, OutcomeKind, OutMessage, Piece, SurfaceLimits

MAX_HELD = 512
_BUSY_PAUSE = 1.0

log = structlog.get_logger("portway.adapters")


class Deliverer:
    """Sends what the host hands over. `report` takes each outcome to the host; it never waits."""

    def __init__(self, limits: SurfaceLimits, ledger: SentLedger, report: Callable[[Outcome], None]) -> None:
        self._limits = limits
        self._ledger = ledger
        self._report = report
        self._lanes: dict[str, deque[Outbound]] = {}
        self._held: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def accept(self, outbound: Outbound, platform: Platform, group: asyncio.TaskGroup) -> None:
        """Takes a delivery; its work is a task of `group`. One that is under way already is not taken twice."""
        if outbound.delivery_id in self._held:
            return
        known = self._ledger.find(outbound.delivery_id)
        if known is not None and known.outcome is not None and known.outcome.kind is OutcomeKind.ACKNOWLEDGED:
            self._report(known.outcome)
            return
        if len(self._held) >= MAX_HELD:
            self._report(_busy(outbound, f"the adapter holds {MAX_HELD} deliveries already"))
            return
        self._held.add(outbound.delivery_id)
        self._idle.clear()
        lane = self._lanes.get(outbound.lane)
        if lane is not None:
            lane.append(outbound)
            return
        self._lanes[outbound.lane] = deque([outbound])
        group.create_task(self._work(outbound.lane, platform), name=f"deliver {outbound.lane}")

    async def until_idle(self) -> None:
        """Returns when nothing is under way."""
        await self._idle.wait()

    async def _work(self, name: str, platform: Platform) -> None:
        lane = self._lanes[name]
        while lane:
            outcome = await self._deliver(lane[0], platform)
            self._settle(lane.popleft(), outcome)
            if outcome.kind is OutcomeKind.RETRYABLE:
                # What comes behind must not overtake it: the host sends them again, in order.
                while lane:
                    self._settle(lane[0], _busy(lane.popleft(), "an earlier delivery must be tried again first"))
        del self._lanes[name]
        if not self._held:
            self._idle.set()

    def _settle(self, outbound: Outbound, outcome: Outcome) -> None:
        self._held.discard(outbound.delivery_id)
        self._ledger.settle(outcome)
        self._report(outcome)

    async def _deliver(self, outbound: Outbound, platform: Platform) -> Outcome:
        identifier = outbound.delivery_id
        try:
            provider = await self._send_all(outbound, platform)
        except RetryLater as error:
            return Outcome(identifier, OutcomeKind.RETRYABLE, "", error.code, error.message, error.retry_after)
        except Refused as error:
            return Outcome(identifier, OutcomeKind.FAILED, "", error.code, error.message)
        except SendError as error:
            return Outcome(identifier, OutcomeKind.UNKNOWN, "", error.code, error.message)
        except Exception:
            # One delivery that a platform's code cannot stand must not end all others.
            log.exception("a bug in the adapter: nobody knows whether the delivery was sent", delivery_id=identifier)
            message = "the adapter has a bug; its log has the trace. Look at the chat before you send it again."
            return Outcome(identifier, OutcomeKind.UNKNOWN, "", "adapter.bug", message)
        return Outcome(identifier, OutcomeKind.ACKNOWLEDGED, provider)

    async def _send_all(self, outbound: Outbound, platform: Platform) -> str:
        pieces = self._pieces(outbound)
        entry = self._ledger.find(outbound.delivery_id)
        if entry is not None and entry.doubtful:
            await self._resolve(pieces[entry.begun - 1], platform)
            entry = self._ledger.find(outbound.delivery_id)
        first = entry.sent if entry is not None else 0
        for piece in pieces[first:]:
            await self._ledger.begin(outbound.delivery_id, piece.index)
            try:
                sent = await _call(piece, platform)
            except (RetryLater, Refused):
                self._ledger.not_sent(outbound.delivery_id, piece.index)
                raise
            self._ledger.sent(outbound.delivery_id, piece.index, sent.provider_message_id)
        entry = self._ledger.find(outbound.delivery_id)
        return entry.provider_message_id if entry is not None else ""

    async def _resolve(self, piece: Piece, platform: Platform) -> None:
        """A process before this one, or a cut connection, left a call of which nobody knows how it ended."""
        if self._limits.repeats_safely:
            return
        found = await platform.was_sent(piece)
        if found is None:
            self._ledger.not_sent(piece.outbound.delivery_id, piece.index)
        else:
            self._ledger.sent(piece.outbound.delivery_id, piece.index, found.provider_message_id)

    def _pieces(self, outbound: Outbound) -> list[Piece]:
        payload = outbound.payload
        if not isinstance(payload, OutMessage):
            return [Piece(outbound, 0, 1, "", ())]
        limits = self._limits
        texts = split(payload.text, limits.max_size, limits.size_unit) if limits.max_size else [payload.text]
        last = len(texts) - 1
        return [
            Piece(outbound, index, len(texts), text, payload.attachments if index == last else ())
            for index, text in enumerate(texts)
        ]


async def _call(piece: Piece, platform: Platform) -> Sent:
    if isinstance(piece.outbound.payload, OutMessage):
        return await platform.send(piece)
    return await platform.act(piece.outbound)


def _busy(outbound: Outbound, why: str) -> Outcome:
    return Outcome(outbound.delivery_id, OutcomeKind.RETRYABLE, "", "adapter.busy", why, _BUSY_PAUSE)
