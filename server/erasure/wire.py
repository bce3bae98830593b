"""What is left of a message of the contract when its content is erased: what keeps sequences and cursors readable."""

from portway.v1 import event_pb2, run_pb2


def surface_of(payload: bytes) -> str:
    """Where an event came from; `api` for one of the API."""
    return event_pb2.Event.FromString(payload).address.surface or "api"


def event_tombstone(payload: bytes) -> bytes:
    """Its type, source and surface."""
    event = event_pb2.Event.FromString(payload)
    left = event_pb2.Event(type=event.type, source=event.source)
    left.address.surface = event.address.surface
    return left.SerializeToString()


def run_event_tombstone(payload: bytes) -> bytes:
    """Its place in the ledger, what kind it was, and how the run ended."""
    event = run_pb2.RunEvent.FromString(payload)
    kind = event.WhichOneof("kind")
    if kind is None or kind in ("state_changed", "reset"):
        return payload
    code = event.run_failed.error.code if kind == "run_failed" else ""
    reason = event.run_completed.finish_reason
    key = event.message_delta.message_key if kind == "message_delta" else ""
    event.ClearField(kind)
    getattr(event, kind).SetInParent()
    event.text_offset = 0
    if code:
        event.run_failed.error.code = code
    if kind == "run_completed":
        event.run_completed.finish_reason = reason
    if key:
        event.message_delta.message_key = key
    return event.SerializeToString()
