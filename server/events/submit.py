"""What is submitted: an event that was read and checked, and nothing of the wire but the bytes that are kept."""

from dataclasses import dataclass

from portway.server.events.facts import EventFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """`payload` is the serialized event, `content` the serialized message for the transcript, empty for none.

    `body_hash` covers what makes it the same event when the key comes again. `agent_id` '' lets the bindings decide.
    Times are microseconds.
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
