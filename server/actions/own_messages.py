"""Actions on the agent's own messages: what they change stands in the transcript as well."""

from portway.rpc.errors import InvalidInput, NotFound, NotPermitted
from portway.server.provenance.mark import Speaker
from portway.server.runner_calls.scope import RunScope
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import Transcript, read_item, redact_item, replace_item
from portway.server.transcript.types import Role, TranscriptItem
from portway.v1 import content_pb2, run_result_pb2

RECALL, EDIT, REACT = "message.recall", "message.edit", "message.react"
OWN_ONLY = (RECALL, EDIT)


async def check_own(transcript: Transcript, run: RunScope, action: run_result_pb2.PlatformAction) -> TranscriptItem:
    """The message that is meant. Raises NotFound outside of the run's conversation, NotPermitted for somebody else's,
    InvalidInput for an edit without text."""
    try:
        item = await transcript.item(run.workspace_id, action.target)
    except NotFound:
        raise run.missing("RequestAction", "message", action.target) from None
    if item.conversation_id != run.conversation_id:
        raise run.missing("RequestAction", "message", action.target)
    if action.action in OWN_ONLY and item.role is not Role.ASSISTANT:
        run.refuse("RequestAction", f"message {action.target}", "not the agent's own")
        raise NotPermitted(f"{action.action} is for the agent's own messages; {action.target} is not one of them")
    if action.action == EDIT and not _text(action):
        raise InvalidInput.field("action.payload.text", "is the new text of the message")
    return item


def project_onto_transcript(
    tx: Transaction,
    workspace_id: str,
    conversation_id: str,
    action: run_result_pb2.PlatformAction,
    speaker: Speaker,
) -> None:
    """In the unit that puts the action into the outbox. `speaker` is the run that edits."""
    if action.action not in OWN_ONLY or not action.target.startswith("msg_"):
        return
    item = read_item(tx, workspace_id, action.target)
    if item.conversation_id != conversation_id or item.role is not Role.ASSISTANT or item.redact_time:
        return
    if action.action == RECALL:
        redact_item(tx, workspace_id, item.item_id)
        return
    message = content_pb2.Message.FromString(item.content)
    kept = [part for part in message.parts if not part.HasField("text")]
    del message.parts[:]
    edited = message.parts.add()
    edited.text.text = _text(action)
    speaker.mark([edited], edited=True)
    message.parts.extend(kept)
    replace_item(tx, workspace_id, item.item_id, _text(action), message.SerializeToString())


def _text(action: run_result_pb2.PlatformAction) -> str:
    field = action.payload.fields.get("text")
    return field.string_value if field is not None else ""
