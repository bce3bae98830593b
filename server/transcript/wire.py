"""Transcript items as messages, with cursors that are the same wherever the transcript is read."""

from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.transcript.types import Role, TranscriptItem
from portway.v1 import content_pb2, transcript_pb2

CURSOR_EPOCH = 1

_ROLES = {
    Role.USER: content_pb2.MESSAGE_ROLE_USER,
    Role.ASSISTANT: content_pb2.MESSAGE_ROLE_ASSISTANT,
    Role.SYSTEM: content_pb2.MESSAGE_ROLE_SYSTEM,
    Role.TOOL: content_pb2.MESSAGE_ROLE_TOOL,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}
_MEDIA = ("image", "audio", "video", "file")


def transcript_stream(workspace_id: str, conversation_id: str) -> str:
    """The name of a conversation's transcript in cursors."""
    return f"transcript/{workspace_id}/{conversation_id}"


def item_cursor(cursors: CursorCodec, workspace_id: str, conversation_id: str, sequence: int) -> str:
    """The cursor of an item: `before` it come older ones, `after` it newer ones."""
    return cursors.write(transcript_stream(workspace_id, conversation_id), Cursor(CURSOR_EPOCH, sequence))


def roles_of(numbers: "list[content_pb2.MessageRole.ValueType]") -> frozenset[str]:
    """Roles of a search; unknown ones match nothing and are left out."""
    return frozenset(_ROLE_OF[number].value for number in numbers if number in _ROLE_OF)


def item_message(
    item: TranscriptItem, workspace_id: str, cursors: CursorCodec, *, artifacts: bool = True
) -> transcript_pb2.TranscriptItem:
    """An item as a caller sees it. Without `artifacts` the list of references is left out, not the parts."""
    said = content_pb2.Message.FromString(item.content)
    message = transcript_pb2.TranscriptItem(
        item_id=item.item_id,
        event_id=item.event_id,
        conversation_id=item.conversation_id,
        thread_id=item.thread_id,
        role=_ROLES[item.role],
        kind=item.kind,
        content=item.text,
        parts=said.parts,
        cursor=item_cursor(cursors, workspace_id, item.conversation_id, item.sequence),
        run_id=item.run_id,
        actor_id=item.actor_id,
        actor_name=item.actor_name,
        redacted=item.redact_time > 0,
    )
    message.create_time.FromMicroseconds(item.create_time)
    if item.edit_time:
        message.edit_time.FromMicroseconds(item.edit_time)
    if artifacts:
        kinds = ((part, part.WhichOneof("kind")) for part in said.parts)
        message.artifacts.extend(getattr(part, kind).artifact for part, kind in kinds if kind in _MEDIA)
    return message
