"""`host.actions`, `host.approvals` and `host.interactions`: what is asked of the platform and of people."""

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.convert import read, write
from portway.runtime.sdk.types.interactions import Interaction, PlatformAction
from portway.runtime.sdk.types.pulled import ActionReceipt, ApprovalReceipt, InteractionReceipt, WantedApproval
from portway.v1 import run_pull_pb2 as pb


class Actions:
    """Platform actions. Needs their names in `platform_actions`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def request(self, request_id: str, action: PlatformAction) -> ActionReceipt:
        """Asks for an action. `request_id` is unique in the run; the same again does nothing new."""
        message = pb.RequestActionRequest(request_id=request_id)
        write(action, message.action)
        return read(ActionReceipt, await self._calls.ask("request_action", message))


class HostApprovals:
    """Approvals of people for what the runner itself is about to do. Needs `approvals.request`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def request(self, wanted: WantedApproval) -> ApprovalReceipt:
        """Returns when a person has allowed it; the run's time stands still until somebody decides.

        Raises NotPermitted (APPROVAL_DENIED: a person refused it), WrongState (APPROVAL_EXPIRED: nobody decided),
        Conflict (the id stands for something else), LimitExceeded. Cancelling withdraws the question.
        """
        message = pb.RequestApprovalRequest()
        write(wanted, message)
        return read(ApprovalReceipt, await self._calls.ask("request_approval", message))


class Interactions:
    """Structured questions. Needs `interactions.request`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def request(self, interaction: Interaction) -> InteractionReceipt:
        """Asks people. Afterwards the runner ends with `RunCompleted(FinishReason.AWAITING_INTERACTION)`; the answer
        starts a new run with the same state."""
        message = pb.RequestInteractionRequest()
        write(interaction, message.interaction)
        return read(InteractionReceipt, await self._calls.ask("request_interaction", message))
