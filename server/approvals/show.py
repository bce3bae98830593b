"""How people see that something waits for them."""

import json

from portway.server.agents.types import AgentSpec
from portway.server.approvals.types import Approval, Approvers, NewApproval
from portway.server.runs.notices import Situation, notice_text
from portway.server.storage_engine.documents import from_json
from portway.v1 import content_pb2, interaction_pb2, run_context_pb2

MAX_SHOWN = 15_000


def shows_in_chat(surface: run_context_pb2.SurfaceCapabilities, approval: NewApproval, delivers: bool) -> bool:
    """Whether the chat shows it with buttons: where the platform can, and somebody in it may decide."""
    approvers = from_json(Approvers, approval.approver)
    can = interaction_pb2.INTERACTION_KIND_CONFIRMATION in surface.interactions
    # What cannot be shown whole is not decided in a chat.
    whole = len(_shown(approval)) <= MAX_SHOWN
    return delivers and can and whole and (approvers.sender or bool(approvers.ids))


def waiting_text(spec: AgentSpec | None) -> str:
    """What people of the chat are told where somebody else decides."""
    return notice_text(spec, Situation.WAITING)


def question_of(approval: Approval) -> content_pb2.QuestionPart:
    """The approval as a confirmation: its id stands for its digest."""
    question = interaction_pb2.Interaction(
        interaction_id=approval.approval_id,
        kind=interaction_pb2.INTERACTION_KIND_CONFIRMATION,
        title=approval.title[:512],
        description=_shown(approval),
        fallback_text=f"{approval.title[:500]} — approve it with `portway approvals approve {approval.approval_id}`.",
    )
    question.actions.add(id="approve", label="Approve", style=interaction_pb2.ACTION_STYLE_PRIMARY)
    question.actions.add(id="deny", label="Deny", style=interaction_pb2.ACTION_STYLE_DANGER)
    question.expire_time.FromMicroseconds(approval.expire_time)
    return content_pb2.QuestionPart(
        run_id=approval.run_id,
        interaction=question,
        state=interaction_pb2.INTERACTION_STATE_OPEN,
        approval_id=approval.approval_id,
    )


def _shown(approval: NewApproval | Approval) -> str:
    """The command as it will run, or the arguments."""
    details = json.loads(approval.details)
    arguments = details.get("arguments", {})
    # What a runner asks for itself is shown whole: its own words must hide nothing of it.
    plain = isinstance(arguments, dict) and details.get("kind") != "request"
    command = arguments.get("command") if plain else None
    text = command if isinstance(command, str) else json.dumps(arguments, ensure_ascii=False, indent=2)
    return text
