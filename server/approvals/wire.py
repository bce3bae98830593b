"""Approvals as messages."""

import json

from google.protobuf.json_format import ParseDict

from portway.server.approvals.types import Approval, ApprovalState
from portway.v1 import run_agent_pb2, run_pb2

_STATES = {
    ApprovalState.PENDING: run_agent_pb2.APPROVAL_STATE_PENDING,
    ApprovalState.APPROVED: run_agent_pb2.APPROVAL_STATE_APPROVED,
    ApprovalState.DENIED: run_agent_pb2.APPROVAL_STATE_DENIED,
    ApprovalState.EXPIRED: run_agent_pb2.APPROVAL_STATE_EXPIRED,
    ApprovalState.WITHDRAWN: run_agent_pb2.APPROVAL_STATE_WITHDRAWN,
}


def state_number(state: ApprovalState) -> "run_agent_pb2.ApprovalState.ValueType":
    return _STATES[state]


def approval_message(approval: Approval) -> run_pb2.Approval:
    """An approval as callers see it."""
    message = run_pb2.Approval(
        approval_id=approval.approval_id,
        run_id=approval.run_id,
        call_id=approval.call_id,
        title=approval.title,
        digest=approval.digest,
        state=_STATES[approval.state],
        decided_by=approval.decided_by,
        note=approval.note,
        conversation_id=approval.conversation_id,
        agent_id=approval.agent_id,
    )
    details = json.loads(approval.details or b"{}")
    if isinstance(details, dict):
        ParseDict(details, message.details)
    message.create_time.FromMicroseconds(approval.create_time)
    message.expire_time.FromMicroseconds(approval.expire_time)
    if approval.decide_time:
        message.decide_time.FromMicroseconds(approval.decide_time)
    return message
