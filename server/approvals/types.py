"""Questions to a person before something is done."""

from dataclasses import dataclass
from enum import StrEnum


class ApprovalState(StrEnum):
    """WITHDRAWN: the run ended before anybody decided."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvers:
    """Who may decide: frozen with the approval. `actor_id` is whoever the run answers."""

    ids: tuple[str, ...] = ()
    operators: bool = True
    sender: bool = False
    actor_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApproval:
    """`digest` (hex) covers exactly what is approved: command, arguments, image, policies. `details` shows it, as JSON.

    `approver` is `Approvers` as JSON. `item_id` and `delivery_id` say where people of the chat see it, '' for nowhere.
    """

    approval_id: str
    call_id: str
    title: str
    digest: str
    details: bytes
    approver: str
    expire_time: int
    conversation_id: str = ""
    agent_id: str = ""
    event_id: str = ""
    item_id: str = ""
    delivery_id: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval, asked by a run."""

    workspace_id: str
    approval_id: str
    run_id: str
    attempt: int
    call_id: str
    title: str
    digest: str
    details: bytes
    approver: str
    expire_time: int
    state: ApprovalState
    decided_by: str
    note: str
    create_time: int
    decide_time: int
    conversation_id: str
    agent_id: str
    event_id: str
    item_id: str
    delivery_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFilter:
    """Which approvals a page shows; an empty field filters nothing."""

    run_id: str = ""
    pending_only: bool = False
