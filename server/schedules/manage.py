"""Making, changing and removing schedules."""

from portway.rpc.errors import Conflict, FieldViolation, InvalidInput, LimitExceeded, Quota, Reason, WrongState
from portway.rpc.identity import Caller
from portway.rpc.ids import derived_id, has_prefix, new_id
from portway.server.agents.store import read_agent
from portway.server.agents.types import ManagedBy
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.conversations.store import read_conversation
from portway.server.events.types import Accepted
from portway.server.schedules.cron import BadCron, check_cron, check_zone, next_after
from portway.server.schedules.scheduler import Scheduler
from portway.server.schedules.store import (
    add_schedule,
    change_schedule,
    count_schedules,
    find_schedule,
    read_schedule,
    remove_schedule,
)
from portway.server.schedules.trigger import Trigger
from portway.server.schedules.types import Schedule, ScheduleSpec
from portway.server.schedules.wire import Draft
from portway.server.storage_engine.clock import Micros, now
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import ReadTransaction, Transaction
from portway.server.storage_engine.writer import Writer

MAX_SCHEDULES = 1_000


class ScheduleManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, reader: Reader, trigger: Trigger, scheduler: Scheduler) -> None:
        self._writer = writer
        self._reader = reader
        self._trigger = trigger
        self._scheduler = scheduler

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> Schedule:
        """Raises InvalidInput, NotFound (agent, conversation), Conflict (id, name), LimitExceeded."""
        spec, workspace_id = draft.spec, caller.workspace_id
        _check(spec)
        made = derived_id("sch", "schedule", workspace_id, request_id) if request_id else new_id("sch")
        schedule_id = draft.schedule_id or made

        def unit(tx: Transaction) -> Schedule:
            _check_names(tx, workspace_id, spec)
            try:
                _ensure_room(tx, workspace_id)
                schedule = add_schedule(tx, workspace_id, schedule_id, spec, first_time(spec, now()))
            except Conflict:
                earlier = find_schedule(tx, workspace_id, schedule_id)
                if earlier is None or not request_id or earlier.spec != spec:
                    raise
                return earlier
            append_audit(tx, [_record(caller, "schedule.create", schedule_id)])
            return schedule

        return self._changed(await self._writer.run(unit))

    async def update(self, caller: Caller, draft: Draft) -> Schedule:
        """Raises as `create`; NotFound; Stale (revision); WrongState (managed by the configuration file)."""
        spec, workspace_id, schedule_id = draft.spec, caller.workspace_id, draft.schedule_id
        _check(spec)

        def unit(tx: Transaction) -> Schedule:
            _refuse_config(read_schedule(tx, workspace_id, schedule_id))
            _check_names(tx, workspace_id, spec)
            following = first_time(spec, now())
            schedule = change_schedule(tx, workspace_id, schedule_id, spec, following, expected_revision=draft.revision)
            append_audit(tx, [_record(caller, "schedule.update", schedule_id)])
            return schedule

        return self._changed(await self._writer.run(unit))

    async def delete(self, caller: Caller, schedule_id: str) -> None:
        """Raises NotFound, WrongState (managed by the configuration file)."""

        def unit(tx: Transaction) -> None:
            _refuse_config(read_schedule(tx, caller.workspace_id, schedule_id))
            remove_schedule(tx, caller.workspace_id, schedule_id)
            append_audit(tx, [_record(caller, "schedule.delete", schedule_id)])

        await self._writer.run(unit)

    async def trigger(self, caller: Caller, schedule_id: str, request_id: str) -> Accepted:
        """Raises NotFound, WrongState (off), and what accepting raises."""
        schedule = await self._reader.look(lambda tx: read_schedule(tx, caller.workspace_id, schedule_id))
        accepted = await self._trigger.by_hand(caller, schedule, request_id)
        record = _record(caller, "schedule.trigger", schedule_id)
        if not accepted.duplicate:
            await self._writer.run(lambda tx: append_audit(tx, [record]))
        return accepted

    def _changed(self, schedule: Schedule) -> Schedule:
        self._scheduler.wake()
        return schedule


def first_time(spec: ScheduleSpec, after: Micros) -> Micros:
    """When it happens next; 0 while it is off."""
    return 0 if spec.disabled else next_after(spec.cron, spec.time_zone, after) or 0


def violations_of(spec: ScheduleSpec) -> list[FieldViolation]:
    """What is wrong with it, each with its path in the request."""
    found: list[FieldViolation] = []
    try:
        check_zone(spec.time_zone)
    except BadCron as error:
        return [FieldViolation("schedule.time_zone", str(error))]
    try:
        check_cron(spec.cron, spec.time_zone, now())
    except BadCron as error:
        found.append(FieldViolation("schedule.cron", str(error)))
    return found


def _check(spec: ScheduleSpec) -> None:
    found = violations_of(spec)
    if found:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in found), fields=found)


def _check_names(tx: ReadTransaction, workspace_id: str, spec: ScheduleSpec) -> None:
    if spec.agent_id:
        read_agent(tx, workspace_id, spec.agent_id)
    # Any other id may be chosen freely; one of our own form was given out by us.
    if has_prefix(spec.conversation_id, "cnv"):
        read_conversation(tx, workspace_id, spec.conversation_id)


def _ensure_room(tx: ReadTransaction, workspace_id: str) -> None:
    if count_schedules(tx, workspace_id) >= MAX_SCHEDULES:
        raise LimitExceeded(
            f"The workspace has {MAX_SCHEDULES} schedules already. Remove some first.",
            reason=Reason.QUOTA_EXCEEDED,
            quota=Quota(workspace_id, f"{MAX_SCHEDULES} schedules"),
        )


def _refuse_config(schedule: Schedule) -> None:
    if schedule.managed_by is ManagedBy.CONFIG:
        raise WrongState(
            f"The schedule {schedule.schedule_id} is declared in the configuration file; change it there.",
            reason=Reason.MANAGED_BY_CONFIG,
        )


def _record(caller: Caller, action: str, schedule_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=schedule_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
    )
