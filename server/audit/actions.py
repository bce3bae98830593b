"""Operators' actions that leave no row of their own in the audit: the gate tells of each that went well.

What changes the settings of a noun writes its row in the transaction of the change; these either change nothing that is
kept, or do so where nobody knows any more who asked. Their rows are queued, as those of refusals are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from portway.rpc.call import Call
from portway.server.audit.refusals import Recorder
from portway.server.audit.types import NewAuditRecord
from portway.server.workspaces.types import DEFAULT_WORKSPACE

# By method: the action, and the field that says what it was about ('' where nothing does).
ACTIONS: Mapping[str, tuple[str, str]] = {
    "RunService/CancelRun": ("run.cancel", "run_id"),
    "DeliveryService/RetryDelivery": ("delivery.retry", "delivery_id"),
    "DeliveryService/DiscardDelivery": ("delivery.discard", "delivery_id"),
    "ConversationService/ForkConversation": ("conversation.fork", "conversation_id"),
    "ConversationService/ResetConversation": ("conversation.reset", "conversation_id"),
    "SkillService/ScanSkills": ("skill.scan", ""),
    "ToolService/RefreshMcpServer": ("mcp_server.refresh", "server_id"),
    "ModelService/TestModel": ("model.test", "model_id"),
    "OperationsService/ApplyRetention": ("retention.apply", "workspace_id"),
    "OperationsService/DeletePluginData": ("plugin_data.delete", "plugin_id"),
}


def told_of(recorder: Recorder) -> dict[str, Callable[[Call[Any, Any], Message], None]]:
    """What the gate calls when a method went well, by its path."""
    return {f"/portway.v1.{name}": _told(recorder, action, field) for name, (action, field) in ACTIONS.items()}


def _told(recorder: Recorder, action: str, field: str) -> Callable[[Call[Any, Any], Message], None]:
    def told(call: Call[Any, Any], request: Message) -> None:
        caller = call.caller
        recorder.record(
            NewAuditRecord(
                workspace_id=caller.workspace_id if caller.workspace_id != "*" else DEFAULT_WORKSPACE,
                action=action,
                resource=str(getattr(request, field)) if field else "",
                allowed=True,
                role=caller.role.name.lower(),
                subject=caller.subject,
                token_id=caller.token_id,
                trace_id=call.trace_id,
                peer=caller.peer,
            )
        )

    return told
