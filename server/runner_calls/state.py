"""State of a run's scopes: read, written, compared and set."""

import json

from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, PayloadTooLarge
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.snapshot.freeze import Snapshot
from portway.server.state.store import State, delete_value, set_value
from portway.server.state.types import ANY_VERSION, Scope, StateSpace
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import run_context_pb2, run_pull_pb2, run_result_pb2

MAX_VALUE_BYTES = 256 * 1024
MAX_PAGE = 100

_SCOPES = {
    run_result_pb2.STATE_SCOPE_CONVERSATION: Scope.CONVERSATION,
    run_result_pb2.STATE_SCOPE_ACTOR: Scope.ACTOR,
    run_result_pb2.STATE_SCOPE_SUBJECT: Scope.SUBJECT,
    run_result_pb2.STATE_SCOPE_RUNNER: Scope.RUNNER,
}


def space_of(snapshot: Snapshot, number: int) -> StateSpace:
    """The run's own space of a scope. Raises NotPermitted (no state), NotFound (the event has no such scope)."""
    if "state" not in snapshot.permissions.allowed:
        raise NotPermitted("state needs the permission state, which this run does not have")
    scope = _SCOPES.get(number)  # type: ignore[call-overload]  # any number may arrive
    space = snapshot.state.get(scope) if scope else None
    if space is None:
        raise NotFound.of("state scope", scope.value if scope else str(number))
    return space


def checked_json(text: str) -> str:
    """Raises InvalidInput for what is no JSON, PayloadTooLarge."""
    if len(text.encode()) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"value_json has more than {MAX_VALUE_BYTES} bytes; keep larger values in storage")
    try:
        json.loads(text)
    except ValueError as error:
        raise InvalidInput.field("value_json", f"is not JSON ({error})") from error
    return text


class StateCalls:
    """GetState, SetState, DeleteState, ListState."""

    def __init__(self, writer: Writer, state: State) -> None:
        self._writer = writer
        self._state = state

    async def get_state(self, run: RunScope, request: run_pull_pb2.GetStateRequest) -> run_pull_pb2.GetStateResponse:
        space = self._space(run, request.scope, "GetState")
        value = await self._state.value(space, request.key)
        return run_pull_pb2.GetStateResponse(
            value=run_context_pb2.StateValue(value_json=value.value_json, version=value.version)
        )

    async def set_state(self, run: RunScope, request: run_pull_pb2.SetStateRequest) -> run_pull_pb2.SetStateResponse:
        space = self._space(run, request.scope, "SetState")
        value = checked_json(request.value_json)
        expected = request.expected_version if request.HasField("expected_version") else ANY_VERSION

        def unit(tx: Transaction) -> int:
            check_fence(tx, run.fence)
            return set_value(tx, space, request.key, value, expected, run.run_id)

        return run_pull_pb2.SetStateResponse(version=await self._writer.run(unit))

    async def delete_state(
        self, run: RunScope, request: run_pull_pb2.DeleteStateRequest
    ) -> run_pull_pb2.DeleteStateResponse:
        space = self._space(run, request.scope, "DeleteState")
        expected = request.expected_version if request.HasField("expected_version") else ANY_VERSION

        def unit(tx: Transaction) -> None:
            check_fence(tx, run.fence)
            delete_value(tx, space, request.key, expected, run.run_id)

        await self._writer.run(unit)
        return run_pull_pb2.DeleteStateResponse()

    async def list_state(self, run: RunScope, request: run_pull_pb2.ListStateRequest) -> run_pull_pb2.ListStateResponse:
        space = self._space(run, request.scope, "ListState")
        limit = request.limit or MAX_PAGE
        values = await self._state.page(space, request.prefix, request.after_key, limit + 1)
        response = run_pull_pb2.ListStateResponse(has_more=len(values) > limit)
        for value in values[:limit]:
            kept = response.values[value.key]
            kept.value_json, kept.version = value.value_json, value.version
        return response

    def _space(self, run: RunScope, scope: int, action: str) -> StateSpace:
        run.allow("state", action)
        try:
            return space_of(run.snapshot, scope)
        except NotFound as error:
            run.refuse(action, str(error), "the event has no such scope")
            raise
