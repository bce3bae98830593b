"""Questions as messages."""

from portway.server.interactions.types import Interaction, InteractionState
from portway.v1 import interaction_pb2, run_pb2

STATES = {
    InteractionState.OPEN: interaction_pb2.INTERACTION_STATE_OPEN,
    InteractionState.ANSWERED: interaction_pb2.INTERACTION_STATE_ANSWERED,
    InteractionState.EXPIRED: interaction_pb2.INTERACTION_STATE_EXPIRED,
    InteractionState.WITHDRAWN: interaction_pb2.INTERACTION_STATE_WITHDRAWN,
}


def record_message(asked: Interaction) -> run_pb2.InteractionRecord:
    """A question as callers see it."""
    message = run_pb2.InteractionRecord(
        run_id=asked.run_id,
        conversation_id=asked.conversation_id,
        interaction=interaction_pb2.Interaction.FromString(asked.request),
        state=STATES[asked.state],
        delivery_id=asked.delivery_id,
        answer_event_id=asked.answer_event_id,
        answer_run_id=asked.answer_run_id,
    )
    if asked.answer:
        message.answer.ParseFromString(asked.answer)
    message.create_time.FromMicroseconds(asked.create_time)
    if asked.end_time:
        message.end_time.FromMicroseconds(asked.end_time)
    return message
