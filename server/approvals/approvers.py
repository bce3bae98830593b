"""Who may decide."""

from portway.rpc.errors import NotPermitted, Reason
from portway.rpc.identity import Caller, Role
from portway.server.agents.types import ApprovalPolicy
from portway.server.approvals.types import Approval, Approvers
from portway.server.storage_engine.documents import from_json

_OPERATORS = (Role.ADMIN, Role.OPERATOR)


def approvers_of(policy: ApprovalPolicy, actor_id: str) -> Approvers:
    """Those of a run whose event is of `actor_id`: frozen with the approval."""
    return Approvers(
        ids=policy.approver_ids, operators=not policy.operators_excluded, sender=policy.sender, actor_id=actor_id
    )


def anybody_decides(policy: ApprovalPolicy, actor_id: str) -> bool:
    """Whether there is anybody who may decide for a run whose event is of `actor_id`."""
    others = bool(set(policy.approver_ids) - {actor_id})
    return not policy.operators_excluded or others or (policy.sender and bool(actor_id))


def check_caller(caller: Caller, approval: Approval) -> str:
    """A caller of the API; answers who it is. Raises NotPermitted."""
    approvers = from_json(Approvers, approval.approver)
    name = caller.subject or caller.token_id
    if name == approvers.actor_id and not approvers.sender:
        raise _refused("nobody approves what they asked for themselves")
    named = name in approvers.ids or (approvers.sender and name == approvers.actor_id)
    if not named and not (approvers.operators and caller.role in _OPERATORS):
        raise _refused("the agent's approval policy does not name you")
    return name


def check_actor(actor_id: str, approval: Approval) -> None:
    """Somebody in the chat of the run. Raises NotPermitted."""
    approvers = from_json(Approvers, approval.approver)
    if actor_id and actor_id == approvers.actor_id:
        if not approvers.sender:
            raise _refused("nobody approves what they asked for themselves")
        return
    if not actor_id or actor_id not in approvers.ids:
        raise _refused("the agent's approval policy does not name you")


def _refused(why: str) -> NotPermitted:
    return NotPermitted(f"You may not decide this approval: {why}.", reason=Reason.REFUSED_BY_POLICY)
