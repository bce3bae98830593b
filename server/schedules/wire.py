"""Between schedules and their messages, and the event that a time makes."""

import dataclasses
import json
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict, ParseDict, SerializeToJsonError

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.server.agents.types import QueuePolicy
from portway.server.agents.wire import MANAGED_BY
from portway.server.events.submit import Submit
from portway.server.events.wire import MAX_DATA_BYTES, submit_of
from portway.server.schedules.types import (
    DEFAULT_CATCH_UP,
    EVENT_TYPE,
    SOURCE,
    CatchUp,
    Overlap,
    Schedule,
    ScheduleSpec,
    TimeOutcome,
)
from portway.v1 import event_pb2, schedule_pb2

_OVERLAP = {
    Overlap.SKIP: schedule_pb2.OVERLAP_POLICY_SKIP,
    Overlap.QUEUE: schedule_pb2.OVERLAP_POLICY_QUEUE,
    Overlap.CANCEL: schedule_pb2.OVERLAP_POLICY_CANCEL,
    Overlap.ALLOW: schedule_pb2.OVERLAP_POLICY_ALLOW,
}
_CATCH_UP = {
    CatchUp.NONE: schedule_pb2.CATCH_UP_POLICY_NONE,
    CatchUp.LAST: schedule_pb2.CATCH_UP_POLICY_LAST,
    CatchUp.ALL: schedule_pb2.CATCH_UP_POLICY_ALL,
}
_OUTCOME = {
    TimeOutcome.NONE: schedule_pb2.SCHEDULE_OUTCOME_UNSPECIFIED,
    TimeOutcome.FIRED: schedule_pb2.SCHEDULE_OUTCOME_FIRED,
    TimeOutcome.SKIPPED: schedule_pb2.SCHEDULE_OUTCOME_SKIPPED,
    TimeOutcome.MISSED: schedule_pb2.SCHEDULE_OUTCOME_MISSED,
    TimeOutcome.REFUSED: schedule_pb2.SCHEDULE_OUTCOME_REFUSED,
}
_FROM_OVERLAP = {number: policy for policy, number in _OVERLAP.items()}
_FROM_CATCH_UP = {number: policy for policy, number in _CATCH_UP.items()}


@dataclass(frozen=True, slots=True)
class Draft:
    """A schedule as somebody wants it. `schedule_id` '' for a new one."""

    schedule_id: str
    revision: int
    spec: ScheduleSpec


def draft_of(message: schedule_pb2.Schedule) -> Draft:
    """What a message wants. Raises InvalidInput for data that cannot be kept."""
    spec = ScheduleSpec(
        name=message.name or message.schedule_id,
        cron=message.cron.strip(),
        time_zone=message.time_zone or "UTC",
        agent_id=message.agent_id,
        conversation_id=message.conversation_id,
        data_json=_data_json(message),
        overlap=_FROM_OVERLAP.get(message.overlap, Overlap.SKIP),
        catch_up=_FROM_CATCH_UP.get(message.catch_up, CatchUp.NONE),
        catch_up_limit=message.catch_up_limit or DEFAULT_CATCH_UP,
        disabled=message.disabled,
    )
    return Draft(message.schedule_id, message.revision, spec)


def schedule_message(schedule: Schedule) -> schedule_pb2.Schedule:
    """A schedule as callers see it."""
    spec = schedule.spec
    message = schedule_pb2.Schedule(
        schedule_id=schedule.schedule_id,
        name=spec.name,
        cron=spec.cron,
        time_zone=spec.time_zone,
        agent_id=spec.agent_id,
        conversation_id=spec.conversation_id,
        overlap=_OVERLAP[spec.overlap],
        catch_up=_CATCH_UP[spec.catch_up],
        catch_up_limit=spec.catch_up_limit,
        disabled=spec.disabled,
        managed_by=MANAGED_BY[schedule.managed_by],
        revision=schedule.revision,
        last_outcome=_OUTCOME[schedule.last_outcome],
        last_reason=schedule.last_reason,
        last_event_id=schedule.last_event_id,
        last_run_id=schedule.last_run_id,
    )
    if spec.data_json:
        ParseDict(json.loads(spec.data_json), message.data)
    for name in ("next_time", "last_time", "create_time", "update_time"):
        time = getattr(schedule, name)
        if time:
            getattr(message, name).FromMicroseconds(time)
    return message


def submit_for(schedule: Schedule, key: str, time: int) -> Submit:
    """The event of one time. `time` 0: it was made by hand, and happens now."""
    spec = schedule.spec
    event = event_pb2.Event(type=EVENT_TYPE, source=SOURCE)
    event.actor.type, event.actor.id, event.actor.name = "system", "portway", "Portway"
    event.subject.type, event.subject.id = "schedule", schedule.schedule_id
    event.subject.data["name"] = spec.name
    if time:
        event.event_time.FromMicroseconds(time)
        event.subject.data["time"] = event.event_time.ToJsonString()
    event.address.conversation_id = spec.conversation_id
    if spec.data_json:
        ParseDict(json.loads(spec.data_json), event.data)
    request = event_pb2.SubmitEventRequest(event=event, idempotency_key=key, agent_id=spec.agent_id)
    return dataclasses.replace(
        submit_of(request, schedule.workspace_id),
        # What happens while the last run executes was decided by the schedule's own policy.
        queue_policy=QueuePolicy.QUEUE,
        lane_id=key if spec.overlap is Overlap.ALLOW else "",
        own_conversation_id=f"schedule:{schedule.schedule_id}",
        summary=f"{spec.name} ({spec.cron} {spec.time_zone})",
    )


def _data_json(message: schedule_pb2.Schedule) -> str:
    if not message.HasField("data"):
        return ""
    path = "schedule.data"
    if message.data.ByteSize() > MAX_DATA_BYTES:
        raise InvalidInput.field(path, f"has over {MAX_DATA_BYTES} bytes")
    try:
        return json.dumps(MessageToDict(message.data), ensure_ascii=False, sort_keys=True)
    except SerializeToJsonError:
        description = "holds a number that is not finite, which JSON does not know"
        raise InvalidInput(f"{path} {description}", fields=[FieldViolation(path, description)]) from None
