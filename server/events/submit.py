"""What is submitted: an event that was read and checked, and nothing of the wire but the bytes that are kept."""

from dataclasses import dataclass

from portway.server.agents.types import QueuePolicy
from portway.server.events.facts import EventFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """`payload` is the serialized event, `content` the serialized message for the transcript, empty for none.

    `body_hash` covers what makes it the same event when the key comes again. `agent_id` '' lets the bindings decide.
    Times are microseconds. `item_role` and `item_kind` are those of its transcript item, `summary` its text where it is
    no message. What the host submits itself may say more: `queue_policy` in place of the agent's,
    `lane_id` for a run that waits for no other of its conversation, `own_conversation_id` for an event that has no
    place and whose agent names none.
    """

    facts: EventFacts
    key: str
    body_hash: bytes
    payload: bytes
    content: bytes = b""
    event_time: int = 0
    summary: str = ""
    provider_message_id: str = ""
    raw_ref: str = ""
    artifact_ids: tuple[str, ...] = ()
    agent_id: str = ""
    parent_run_id: str = ""
    trace_id: str = ""
    parent_span: str = ""
    queue_policy: QueuePolicy | None = None
    lane_id: str = ""
    own_conversation_id: str = ""
    item_role: str = "user"
    item_kind: str = "message"
