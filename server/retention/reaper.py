"""Letting go of what is older than it is kept, in units so small that nobody who writes notices."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog

from portway.rpc.errors import PortwayError
from portway.server.retention.config import RetentionConfig
from portway.server.retention.rules import rules_of
from portway.server.retention.store import move_mark, read_position
from portway.server.retention.types import START, Position, Rule, Step, Stepped
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import ReadTransaction, Transaction

FIRST_AFTER = 60.0
ROWS_AT_ONCE = 200
FEWEST_ROWS = 10
# A unit that holds the writer longer than this makes the next ones smaller.
UNIT_SECONDS = 0.01
# After a unit the writer belongs to others for so many times as long.
REST = 4.0
_WORKSPACES = "SELECT workspace_id FROM workspaces WHERE workspace_id > :after ORDER BY workspace_id LIMIT 100"


@dataclass(frozen=True, slots=True)
class Removed:
    """What a pass removed of a kind in a workspace, in rows; or would remove."""

    workspace_id: str
    kind: str
    rows: int


@dataclass(slots=True)
class Progress:
    """What the reaper has done since the host started. `longest`: seconds that its longest unit held the writer."""

    passes: int = 0
    removed: int = 0
    units: int = 0
    longest: float = 0.0
    last_time: float = 0.0
    problem: str = ""


class RetentionReaper:
    """Runs by itself; `apply` is for who will not wait."""

    def __init__(self, database: Database, config: RetentionConfig) -> None:
        self._database = database
        self._config = config
        self._rules = rules_of(config)
        self._rows = ROWS_AT_ONCE
        self._one_at_a_time = asyncio.Lock()
        self._log = structlog.get_logger("portway.server.retention")
        self.progress = Progress()

    async def run(self) -> None:
        """Until it is cancelled."""
        wait = min(FIRST_AFTER, self._config.every_seconds)
        while True:
            await asyncio.sleep(wait)
            wait = self._config.every_seconds
            try:
                await self.apply()
                self.progress.problem = ""
            except PortwayError as error:
                self.progress.problem = str(error)
                self._log.warning("what is too old could not be removed; it will be later", error=str(error))

    async def apply(self, kinds: Sequence[str] = (), workspace_id: str = "", *, dry: bool = False) -> list[Removed]:
        """One pass over all kinds, or those, in all workspaces, or one. `dry`: nothing is removed, only counted."""
        async with self._one_at_a_time:
            done = []
            async for workspace in self._workspaces(workspace_id):
                for rule in self._rules:
                    seconds = self._config.seconds(rule.kind)
                    if seconds and (not kinds or rule.kind in kinds):
                        rows = await (self._count if dry else self._walk)(rule, workspace, seconds)
                        if rows:
                            done.append(Removed(workspace, rule.kind, rows))
            if not dry:
                await self._give_space_back()
                self._note(done)
            return done

    def _note(self, done: Sequence[Removed]) -> None:
        self.progress.passes += 1
        self.progress.removed += sum(removed.rows for removed in done)
        self.progress.last_time = time.time()
        if done:
            kinds = {rule.kind: sum(one.rows for one in done if one.kind == rule.kind) for rule in self._rules}
            self._log.info("what was too old was removed", **{kind: rows for kind, rows in kinds.items() if rows})

    async def _workspaces(self, only: str) -> AsyncIterator[str]:
        if only:
            yield only
            return
        after = ""
        while page := await self._database.reader.run(lambda tx: tx.all(_WORKSPACES, {"after": after})):  # noqa: B023
            for (workspace_id,) in page:
                yield workspace_id
            after = page[-1][0]

    async def _walk(self, rule: Rule, workspace_id: str, seconds: int) -> int:
        begin = await self._database.reader.run(lambda tx: read_position(tx, workspace_id, rule.kind))
        position: Position = (begin, "")
        first_kept: Position | None = None
        removed = 0
        while True:
            stepped = await self._unit(rule, workspace_id, seconds, position)
            removed += stepped.removed
            first_kept = first_kept or stepped.kept
            position = stepped.position
            if stepped.done:
                break
        # One before the first that was passed over, and before the last: equals of it may follow.
        reached = max(begin, min(position[0], first_kept[0] if first_kept else position[0]) - 1)
        if removed or reached != begin:
            await self._database.writer.run(lambda tx: move_mark(tx, workspace_id, rule.kind, reached, removed))
        return removed

    async def _unit(self, rule: Rule, workspace_id: str, seconds: int, position: Position) -> Stepped:
        limit = self._rows

        def unit(tx: Transaction) -> tuple[Stepped, float]:
            begun = time.perf_counter()
            step = Step(workspace_id, position, tx.now - seconds * SECOND, limit, dry=False)
            return rule.step(tx, step), time.perf_counter() - begun

        stepped, took = await self._database.writer.run(unit)
        progress = self.progress
        progress.units += 1
        progress.longest = max(progress.longest, took)
        if took > UNIT_SECONDS:
            self._rows = max(FEWEST_ROWS, limit // 2)
        elif limit < ROWS_AT_ONCE:
            self._rows = min(ROWS_AT_ONCE, limit + FEWEST_ROWS)
        await asyncio.sleep(took * REST)
        return stepped

    async def _count(self, rule: Rule, workspace_id: str, seconds: int) -> int:
        begin = await self._database.reader.run(lambda tx: read_position(tx, workspace_id, rule.kind))
        position: Position = (begin, "") if begin else START
        removed = 0
        while True:

            def query(tx: ReadTransaction, position: Position = position) -> Stepped:
                step = Step(workspace_id, position, tx.now - seconds * SECOND, ROWS_AT_ONCE, dry=True)
                # A dry step only reads.
                return rule.step(tx, step)  # type: ignore[arg-type]

            stepped = await self._database.reader.run(query)
            removed += stepped.removed
            position = stepped.position
            if stepped.done:
                return removed

    async def _give_space_back(self) -> None:
        """What the database file can do without goes back to the disk, a piece at a time."""
        given = True
        while given:
            given = await self._database.give_back()
            await asyncio.sleep(UNIT_SECONDS * REST)
