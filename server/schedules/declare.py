"""Schedules that the configuration file declares: of the default workspace, read-only in the API."""

from collections.abc import Sequence

from portway.rpc.configuration import ConfigurationError
from portway.rpc.written import message_from
from portway.server.agents.types import ManagedBy
from portway.server.schedules.manage import first_time, violations_of
from portway.server.schedules.store import add_schedule, change_schedule, read_schedules, remove_schedule
from portway.server.schedules.wire import Draft, draft_of
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import schedule_pb2


def read_schedule_draft(written: object, place: str) -> Draft:
    """Raises ConfigurationError naming the place of the mistake."""
    draft = draft_of(message_from(schedule_pb2.Schedule, written, place))
    if not draft.schedule_id:
        raise ConfigurationError(f"`{place}.schedule_id` is missing; any name of your own will do")
    for violation in violations_of(draft.spec):
        raise ConfigurationError(f"`{place}.{violation.field.removeprefix('schedule.')}` {violation.description}")
    return draft


def apply_schedules(tx: Transaction, workspace_id: str, drafts: Sequence[Draft]) -> None:
    """Bring the workspace in line. One that has not changed keeps its next time: what was missed is still made up
    for. What the file no longer declares is removed."""
    before = {schedule.schedule_id: schedule for schedule in read_schedules(tx, workspace_id)}
    wanted = {draft.schedule_id for draft in drafts}
    for schedule in before.values():
        if schedule.managed_by is ManagedBy.CONFIG and schedule.schedule_id not in wanted:
            remove_schedule(tx, workspace_id, schedule.schedule_id)
    for draft in drafts:
        kept = before.get(draft.schedule_id)
        following = first_time(draft.spec, now())
        if kept is None:
            add_schedule(tx, workspace_id, draft.schedule_id, draft.spec, following, ManagedBy.CONFIG)
        elif kept.spec != draft.spec or kept.managed_by is not ManagedBy.CONFIG:
            change_schedule(tx, workspace_id, draft.schedule_id, draft.spec, following, managed_by=ManagedBy.CONFIG)
