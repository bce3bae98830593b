"""A message for a run that is under way, from the API."""

import asyncio
import hashlib

from portway.rpc.errors import Conflict, Reason, WrongState
from portway.rpc.identity import Caller
from portway.server.artifacts.store import attach_artifacts
from portway.server.events.accept_unit import STEER_LIMIT
from portway.server.events.wire import artifact_ids
from portway.server.provenance.mark import mark_event
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.ledger import add_steer
from portway.server.runs.pending import Arrival
from portway.server.runs.store import Ledgers, Runs
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import event_pb2, run_pb2

_READ = 1_000


class Steering:
    """Gives messages to executing runs."""

    def __init__(self, writer: Writer, runs: Runs, ledgers: Ledgers, dispatcher: Dispatcher) -> None:
        self._writer = writer
        self._runs = runs
        self._ledgers = ledgers
        self._dispatcher = dispatcher

    async def steer(self, caller: Caller, request: run_pb2.SteerRunRequest) -> str:
        """Answers the message's id.

        Raises NotFound (run, file), WrongState, LimitExceeded, Conflict (same id, other message).
        """
        workspace_id = caller.workspace_id
        run = await self._runs.run(workspace_id, request.run_id)
        steering_id = "str_" + hashlib.sha256(request.request_id.encode()).hexdigest()[:32]
        event = event_pb2.Event(type="message.received", source="api", parts=request.parts)
        event.actor.type, event.actor.id = "user", caller.subject or caller.token_id
        mark_event(event)
        payload = event.SerializeToString(deterministic=True)
        for earlier in await self._ledgers.steers(workspace_id, run.run_id, _READ):
            if earlier.steering_id == steering_id:
                if earlier.payload != payload:
                    raise Conflict("the request_id stands for another message", reason=Reason.SAME_KEY_OTHER_BODY)
                return steering_id
        fence = self._dispatcher.steerable(workspace_id, run.conversation_id)
        if fence is None or fence.run_id != run.run_id:
            raise _not_steerable(run.run_id, run.state.final)
        files = artifact_ids(event)

        def unit(tx: Transaction) -> int:
            attach_artifacts(tx, workspace_id, files, event_id="", conversation_id=run.conversation_id)
            return add_steer(tx, fence, steering_id, "", payload, STEER_LIMIT)

        position = await asyncio.shield(self._writer.submit(unit))
        self._dispatcher.steer(fence, Arrival(steering_id, "", payload, position))
        return steering_id


def _not_steerable(run_id: str, ended: bool) -> WrongState:
    if ended:
        return WrongState(f"the run {run_id} has ended; send the message as an event", reason=Reason.RUN_FINISHED)
    return WrongState(
        f"the run {run_id} takes no messages now: it waits for its turn, is ending, or its runner has no steering",
        reason=Reason.NOT_SUPPORTED_HERE,
    )
