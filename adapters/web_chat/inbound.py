"""From what the page sends to an event."""

from portway.adapters.kit.types import Inbound
from portway.adapters.web_chat.frames import AnswerFrame, SendFrame
from portway.adapters.web_chat.limits import SURFACE


def event_of(frame: SendFrame, user: str) -> Inbound:
    """A message of the page. The conversation is its own launcher, so that each has state and a sandbox of its own."""
    return Inbound(
        key=frame.key,
        surface=SURFACE,
        launcher_type="person",
        launcher_id=frame.conversation_id,
        conversation_id=frame.conversation_id,
        actor_id=f"web:{user}",
        text=frame.text,
        attachments=frame.files,
        addressed=True,
        source_event_type="page.send",
    )


def answer_of(frame: AnswerFrame, user: str) -> Inbound:
    """An answer to a question of the page's own conversation."""
    return Inbound(
        key=frame.key,
        type="interaction.submitted",
        surface=SURFACE,
        launcher_type="person",
        launcher_id=frame.conversation_id,
        conversation_id=frame.conversation_id,
        actor_id=f"web:{user}",
        addressed=True,
        source_event_type="page.answer",
        answer=frame.answer,
    )
