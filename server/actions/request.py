"""A run asks the platform to do something that is no message: permitted, approved, then a delivery like any other."""

import asyncio
import hashlib

from google.protobuf.json_format import MessageToDict

from portway.rpc.errors import Conflict, InvalidInput, NotFound, NotPermitted, PortwayError, Reason, WrongState
from portway.server.actions.own_messages import check_own, project_onto_transcript
from portway.server.approvals.gate import ApprovalGate, Wanted
from portway.server.approvals.policy import action_needs
from portway.server.deliveries.store import Deliveries
from portway.server.deliveries.types import Delivery
from portway.server.runner_calls.scope import RunScope
from portway.server.transcript.store import Transcript
from portway.v1 import delivery_pb2, run_pb2, run_pull_pb2, run_result_pb2

MAX_PAYLOAD_BYTES = 256 * 1024


class ActionCalls:
    """RequestAction, and the same as a result."""

    def __init__(self, gate: ApprovalGate, deliveries: Deliveries, transcript: Transcript) -> None:
        self._gate = gate
        self._deliveries = deliveries
        self._transcript = transcript

    async def request_action(
        self, run: RunScope, request: run_pull_pb2.RequestActionRequest
    ) -> run_pull_pb2.RequestActionResponse:
        try:
            return await self.request(run, request.request_id, request.action)
        except PortwayError as error:
            _record(run, request.action, error)
            raise

    async def request(
        self, run: RunScope, request_id: str, action: run_result_pb2.PlatformAction, sequence: int = 0
    ) -> run_pull_pb2.RequestActionResponse:
        """Answers once the delivery is on disk. `sequence` is that of the runner's result.

        Raises NotPermitted (not granted, or denied), InvalidInput, Conflict (the id stands for another action),
        WrongState (the surface cannot; nobody approved).
        """
        self._check(run, request_id, action)
        body = action.SerializeToString(deterministic=True)
        under_way = run.actions.get(request_id)
        if under_way is None:
            under_way = asyncio.get_running_loop().create_future()
            run.actions[request_id] = under_way
            try:
                response = await self._deliver(run, request_id, action, sequence)
            except BaseException as error:
                # Whoever asked for the same meanwhile gets the same answer, and may ask again afterwards.
                del run.actions[request_id]
                under_way.set_exception(error if isinstance(error, PortwayError) else _given_up(action))
                under_way.exception()
                raise
            under_way.set_result((body, response))
            return response
        first, response = await asyncio.shield(under_way)
        if first != body:
            raise _other_action(request_id)
        return response

    def _check(self, run: RunScope, request_id: str, action: run_result_pb2.PlatformAction) -> None:
        run.check_alive()
        if not request_id:
            raise InvalidInput.field("request_id", "is chosen by the runner, unique in the run")
        if not action.action:
            raise InvalidInput.field("action.action", "names what is to be done")
        if action.ByteSize() > MAX_PAYLOAD_BYTES:
            raise InvalidInput.field("action.payload", f"has more than {MAX_PAYLOAD_BYTES:,} bytes")
        if action.action in run.snapshot.permissions.platform_actions:
            return
        run.refuse("RequestAction", action.action, "not granted")
        if action.action in run.snapshot.layers[1].permissions.platform_actions:
            raise WrongState(
                f"the surface {run.facts.surface or 'of this run'} cannot do {action.action!r}",
                reason=Reason.NOT_SUPPORTED_HERE,
            )
        raise NotPermitted(
            f"the platform action {action.action!r} is not granted to this run; "
            f"`portway runs explain {run.run_id}` shows which layer took it away"
        )

    async def _deliver(
        self, run: RunScope, request_id: str, action: run_result_pb2.PlatformAction, sequence: int
    ) -> run_pull_pb2.RequestActionResponse:
        delivery_id = _delivery_id(run, request_id)
        wanted = run_result_pb2.PlatformAction()
        wanted.CopyFrom(action)
        wanted.target = await self._target(run, action)
        known = await self._known(run, delivery_id, wanted)
        if known:
            # An earlier attempt has asked for it.
            return run_pull_pb2.RequestActionResponse(delivery_id=delivery_id)
        approval_id = ""
        if action_needs(run.snapshot.spec, action.action):
            approval_id = await self._gate.ask(run, _wanted(request_id, wanted))
        stage = run.on_stage
        stage.flush()
        requested = run_result_pb2.ActionRequested(request_id=request_id, action=wanted)
        stage.journal.append("action_requested", run_pb2.RunEvent(action_requested=requested), sequence, sequence)
        stage.voice.act(delivery_id, wanted)
        workspace_id, conversation_id, speaker = run.workspace_id, run.conversation_id, stage.voice.speaker
        stage.journal.also(lambda tx: project_onto_transcript(tx, workspace_id, conversation_id, action, speaker))
        stage.flush()
        await stage.journal.settled()
        return run_pull_pb2.RequestActionResponse(delivery_id=delivery_id, approval_id=approval_id)

    async def _target(self, run: RunScope, action: run_result_pb2.PlatformAction) -> str:
        """What the platform knows: the place of the reply, or its own id of a message of this conversation."""
        if not action.target:
            return run.facts.reply_target or run.facts.launcher_id
        if not action.target.startswith("msg_"):
            return action.target
        item = await check_own(self._transcript, run, action)
        try:
            sent = await self._deliveries.delivery(run.workspace_id, "dlv_" + item.item_id.removeprefix("msg_"))
        except NotFound:
            return item.provider_message_id or action.target
        return sent.provider_message_id or action.target

    async def _known(self, run: RunScope, delivery_id: str, action: run_result_pb2.PlatformAction) -> bool:
        try:
            kept: Delivery = await self._deliveries.delivery(run.workspace_id, delivery_id)
        except NotFound:
            return False
        payload = delivery_pb2.DeliveryPayload.FromString(kept.payload)
        if payload.action.action != action.action or payload.action.payload != action.payload:
            raise _other_action(delivery_id)
        return True


def _wanted(request_id: str, action: run_result_pb2.PlatformAction) -> Wanted:
    arguments = {"target": action.target, "payload": MessageToDict(action.payload)}
    return Wanted(
        kind="action", name=action.action, call_id=request_id, title=f"Do {action.action}?", arguments=arguments
    )


def _delivery_id(run: RunScope, request_id: str) -> str:
    """The same for the same request of a run, in every attempt."""
    return "dlv_" + hashlib.sha256(f"{run.run_id}/{request_id}".encode()).hexdigest()[:32]


def _record(run: RunScope, action: run_result_pb2.PlatformAction, error: PortwayError) -> None:
    """What is not executed stands in the ledger all the same."""
    if run.stage is None or run.ended is not None:
        return
    recorded = run_pb2.RunRecorded(reason=str(error.reason), summary=f"{action.action}: {error.message}"[:1000])
    run.stage.journal.append("recorded", run_pb2.RunEvent(recorded=recorded))
    run.stage.journal.flush()


def _other_action(request_id: str) -> Conflict:
    return Conflict(
        f"the request_id {request_id!r} stands for another action of this run; use a new one",
        reason=Reason.SAME_KEY_OTHER_BODY,
    )


def _given_up(action: run_result_pb2.PlatformAction) -> WrongState:
    return WrongState(f"the request for {action.action!r} was given up before anything was done")
