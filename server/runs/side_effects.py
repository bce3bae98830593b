"""Results that change something: the rules are those of the calls that do the same, the order is that of the stream."""

from portway.rpc.errors import InvalidInput, NotAvailable, NotFound
from portway.server.events.wire import media_of
from portway.server.runner_calls.artifacts import ArtifactRules
from portway.server.runner_calls.operations import RunnerCalls
from portway.server.runner_calls.scope import RunScope
from portway.server.runner_calls.state import checked_json, space_of
from portway.server.runs.journal import Journal
from portway.server.state.store import delete_value, set_value
from portway.server.state.types import StateSpace
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import content_pb2, run_result_pb2


class SideEffects:
    """Of one attempt. Writes are put into the journal's next unit, beside the result that tells of them."""

    def __init__(self, run: RunScope, journal: Journal, artifacts: ArtifactRules, calls: RunnerCalls) -> None:
        self._run = run
        self._snapshot = run.snapshot
        self._run_id = run.run_id
        self._journal = journal
        self._artifacts = artifacts
        self._calls = calls

    async def keep_artifact(self, created: run_result_pb2.ArtifactCreated) -> content_pb2.ArtifactRef:
        """The artifact as it is kept. Raises NotPermitted, NotFound, InvalidInput, PayloadTooLarge."""
        if not created.content:
            return await self._artifacts.known(created.artifact.artifact_id)
        artifact, add = await self._artifacts.inline(created.artifact, created.content)
        self._journal.also(add)
        return artifact

    async def true_attachments(self, message: content_pb2.Message) -> None:
        """Files in a message as the host has them. Raises NotFound for one that the run does not reach."""
        for ref in media_of(message.parts):
            if not ref.artifact_id:
                raise InvalidInput.field("message.parts", "media are made as artifacts first: no artifact_id")
            ref.CopyFrom(await self._artifacts.known(ref.artifact_id))

    def set_state(self, updated: run_result_pb2.StateUpdated) -> None:
        """Raises NotPermitted, NotFound (scope), InvalidInput (JSON)."""
        space = space_of(self._snapshot, updated.scope)
        if not updated.key:
            raise InvalidInput.field("state_updated.key", "has 1 to 256 characters")
        key, run_id = updated.key, self._run_id
        if not updated.value_json:
            self._journal.also(lambda tx: _delete(tx, space, key, run_id))
            return
        value = checked_json(updated.value_json)
        self._journal.also(lambda tx: set_value(tx, space, key, value, run_id=run_id))

    async def request(self, requested: run_result_pb2.ActionRequested, sequence: int) -> None:
        """Recorded by the caller where it is refused. Raises as the calls RequestAction and RequestInteraction."""
        match requested.WhichOneof("kind"):
            case "interaction":
                await self._calls.interactions.ask(self._run, requested.interaction, sequence)
            case "action":
                await self._calls.actions.request(self._run, requested.request_id, requested.action, sequence)
            case _:
                raise NotAvailable("something was requested that this version does not know")


def _delete(tx: Transaction, space: StateSpace, key: str, run_id: str) -> None:
    try:
        delete_value(tx, space, key, run_id=run_id)
    except NotFound:
        # Deleting what is not there leaves what was asked for.
        return
