"""What the host has for schedules."""

from dataclasses import dataclass

from portway.rpc.cursor import CursorCodec
from portway.server.events.accept import Acceptor
from portway.server.runs.cancel import Canceller
from portway.server.runs.store import StoredRuns
from portway.server.schedules.manage import ScheduleManager
from portway.server.schedules.scheduler import Scheduler
from portway.server.schedules.servicer import ScheduleServicer
from portway.server.schedules.store import StoredSchedules
from portway.server.schedules.trigger import Trigger
from portway.server.storage_engine.database import Database


@dataclass(frozen=True, slots=True)
class ScheduleParts:
    """Live as long as the host."""

    stored: StoredSchedules
    trigger: Trigger
    scheduler: Scheduler


def build_schedules(database: Database, acceptor: Acceptor, runs: StoredRuns, canceller: Canceller) -> ScheduleParts:
    stored = StoredSchedules(database.reader)
    trigger = Trigger(database, acceptor, runs, canceller)
    return ScheduleParts(stored, trigger, Scheduler(database.writer, stored, trigger))


def schedule_servicer(parts: ScheduleParts, database: Database, cursors: CursorCodec) -> ScheduleServicer:
    manager = ScheduleManager(database.writer, database.reader, parts.trigger, parts.scheduler)
    return ScheduleServicer(manager, parts.stored, cursors)
