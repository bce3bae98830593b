"""Between events and their messages."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.rpc.telemetry import Trace
from portway.server.artifacts.types import Artifact
from portway.server.artifacts.wire import artifact_ref
from portway.server.events.facts import EDIT, MESSAGE, EventFacts
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted, Event, EventOutcome
from portway.server.provenance.mark import mark_event
from portway.v1 import content_pb2, event_pb2

MAX_DATA_BYTES = 64 * 1024
MAX_EVENT_BYTES = 2 * 1024 * 1024
SUMMARY_CHARS = 1_000
DEFAULT_SOURCE = "api"
# Sources of the host itself begin so: their keys are nobody else's to take.
RESERVED_SOURCES = "portway."

_MEDIA = ("image", "audio", "video", "file")
_GIVEN_BY_HOST = ("event_id", "accept_time", "sequence", "workspace_id")
_OUTCOMES = {
    EventOutcome.RUN: event_pb2.EVENT_OUTCOME_RUN,
    EventOutcome.STEER: event_pb2.EVENT_OUTCOME_STEER,
    EventOutcome.RECORDED: event_pb2.EVENT_OUTCOME_RECORDED,
    EventOutcome.REFUSED: event_pb2.EVENT_OUTCOME_REFUSED,
}


def submit_of(request: event_pb2.SubmitEventRequest, workspace_id: str, trace: Trace | None = None) -> Submit:
    """What a request submits. Raises InvalidInput for what the contract's rules cannot say."""
    event = request.event
    for name in _GIVEN_BY_HOST:
        event.ClearField(name)  # type: ignore[arg-type]  # names of the message's own fields
    if not event.source:
        event.source = DEFAULT_SOURCE
    _check(event)
    facts = facts_of(event, workspace_id)
    sent = event.SerializeToString(deterministic=True)
    # The key stands for what was sent; where it comes from is the host's to say.
    mark_event(event, edited=event.type == EDIT)
    payload = event.SerializeToString(deterministic=True) if event.parts else sent
    if len(payload) > MAX_EVENT_BYTES:
        raise InvalidInput.field("event", f"has {len(payload)} bytes; upload what is large as artifacts first")
    return Submit(
        facts=facts,
        key=request.idempotency_key,
        body_hash=_body_hash(request, sent),
        payload=payload,
        content=content_of(event),
        event_time=event.event_time.ToMicroseconds() if event.HasField("event_time") else 0,
        summary=facts.text[:SUMMARY_CHARS],
        provider_message_id=event.subject.id if event.subject.type == "message" else "",
        raw_ref=event.raw_ref.artifact_id,
        artifact_ids=artifact_ids(event),
        agent_id=request.agent_id,
        trace_id=trace.trace_id if trace is not None else "",
        parent_span=trace.span_id if trace is not None else "",
    )


def submitted(request: event_pb2.SubmitEventRequest, workspace_id: str, trace: Trace | None = None) -> Submit:
    """What somebody else submits. Raises InvalidInput, also for a source that is the host's own."""
    if request.event.source.startswith(RESERVED_SOURCES):
        raise InvalidInput.field("event.source", f"begins with `{RESERVED_SOURCES}`, which is kept for the host itself")
    return submit_of(request, workspace_id, trace)


def facts_of(event: event_pb2.Event, workspace_id: str) -> EventFacts:
    """The plain facts of an event."""
    address, actor = event.address, event.actor
    return EventFacts(
        workspace_id=workspace_id,
        type=event.type,
        source=event.source,
        text=text_of(event.parts),
        surface=address.surface,
        bot_id=address.bot_id,
        channel_id=address.channel_id,
        conversation_id=address.conversation_id,
        launcher_type=address.launcher_type,
        launcher_id=address.launcher_id,
        thread_id=address.thread_id,
        reply_target=address.reply_target,
        actor_id=actor.id,
        actor_name=actor.name,
        subject_type=event.subject.type,
        subject_id=event.subject.id,
        addressed=event.addressed,
    )


def text_of(parts: Iterable[content_pb2.ContentPart]) -> str:
    """The text of all text parts."""
    return "".join(part.text.text for part in parts if part.HasField("text"))


def content_of(event: event_pb2.Event) -> bytes:
    """What the transcript keeps of a message; empty for an event that is none."""
    if event.type not in (MESSAGE, EDIT) or not event.parts:
        return b""
    message = content_pb2.Message(role=content_pb2.MESSAGE_ROLE_USER)
    message.parts.extend(event.parts)
    return message.SerializeToString()


def artifact_ids(event: event_pb2.Event) -> tuple[str, ...]:
    """The uploads that the event refers to, each once."""
    found = dict.fromkeys(ref.artifact_id for ref in media_of(event.parts))
    if event.raw_ref.artifact_id:
        found[event.raw_ref.artifact_id] = None
    return tuple(found)


def media_of(parts: Iterable[content_pb2.ContentPart]) -> list[content_pb2.ArtifactRef]:
    """References of the media among the parts."""
    kinds = ((part, part.WhichOneof("kind")) for part in parts)
    return [getattr(part, kind).artifact for part, kind in kinds if kind in _MEDIA]


def attached(submit: Submit, artifacts: Iterable[Artifact]) -> Submit:
    """The event with its attachments as the host has them; the key still stands for what was sent."""
    known = {artifact.artifact_id: artifact for artifact in artifacts}
    event = event_pb2.Event.FromString(submit.payload)
    for ref in [*media_of(event.parts), *([event.raw_ref] if event.HasField("raw_ref") else [])]:
        artifact = known.get(ref.artifact_id)
        if artifact is not None:
            summary = ref.summary
            ref.CopyFrom(artifact_ref(artifact))
            ref.summary = artifact.summary or summary
    return replace(submit, payload=event.SerializeToString(deterministic=True), content=content_of(event))


def event_message(event: Event) -> event_pb2.Event:
    """A stored event as a caller sees it."""
    message = event_pb2.Event.FromString(event.payload)
    message.event_id = event.event_id
    message.workspace_id = event.workspace_id
    message.sequence = event.sequence
    message.address.conversation_id = event.conversation_id
    message.accept_time.FromMicroseconds(event.accept_time)
    return message


def outcome_number(outcome: EventOutcome) -> "event_pb2.EventOutcome.ValueType":
    return _OUTCOMES[outcome]


def submit_response(accepted: Accepted) -> event_pb2.SubmitEventResponse:
    """The answer to a submit."""
    return event_pb2.SubmitEventResponse(
        event_id=accepted.event_id,
        duplicate=accepted.duplicate,
        run_id=accepted.run_id,
        conversation_id=accepted.conversation_id,
        outcome=outcome_number(accepted.outcome),
        sequence=accepted.sequence,
        message_id=accepted.item_id,
    )


def _check(event: event_pb2.Event) -> None:
    violations = []
    if not event.type:
        violations.append(FieldViolation("event.type", "says what happened, for example `message.received`"))
    if event.type == MESSAGE and not event.parts:
        violations.append(FieldViolation("event.parts", "a message has at least one part"))
    if event.HasField("data") and event.data.ByteSize() > MAX_DATA_BYTES:
        violations.append(FieldViolation("event.data", f"has over {MAX_DATA_BYTES} bytes; upload it as an artifact"))
    for index, ref in enumerate(media_of(event.parts)):
        if not ref.artifact_id:
            violations.append(FieldViolation(f"event.parts[{index}]", "media are uploaded first: no artifact_id"))
    if violations:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in violations), fields=violations)


def _body_hash(request: event_pb2.SubmitEventRequest, sent: bytes) -> bytes:
    """References to the raw payload differ from try to try, so they are left out."""
    if request.event.HasField("raw_ref"):
        bare = event_pb2.Event.FromString(sent)
        bare.ClearField("raw_ref")
        sent = bare.SerializeToString(deterministic=True)
    return hashlib.sha256(request.agent_id.encode() + b"\0" + sent).digest()
