"""Stopping a run, with a receipt of what was asked to stop and what is known to have stopped."""

import asyncio
from dataclasses import dataclass

from portway.server.runs import ending as ends
from portway.server.runs.attempts import request_cancel
from portway.server.runs.close import Closer
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.execute import Execution
from portway.server.runs.store import Runs
from portway.server.runs.types import Run
from portway.server.storage_engine.writer import Writer
from portway.v1 import run_pb2

# Beyond the grace time: what writing the end down takes at most.
MARGIN_SECONDS = 5.0
_KINDS = {"call_tool": "tool_call", "stream_model": "model_call", "invoke_model": "model_call"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """The run as it is then, and what was asked to stop: kind and id of each thing below it."""

    run: Run
    already_ended: bool
    children: tuple[tuple[str, str], ...]
    reachable: bool = True


class Canceller:
    """Cancels runs, wherever they are."""

    def __init__(self, writer: Writer, runs: Runs, dispatcher: Dispatcher, closer: Closer, grace: float) -> None:
        self._writer = writer
        self._runs = runs
        self._dispatcher = dispatcher
        self._closer = closer
        self._grace = grace

    async def cancel(self, workspace_id: str, run_id: str, reason: str) -> Receipt:
        """Returns when the run is settled, at the latest after the grace time. Raises NotFound."""
        run = await self._runs.run(workspace_id, run_id)
        if run.state.final:
            return Receipt(run, True, ())
        reason = reason or "it was cancelled"
        # On disk first: a host that dies now still knows that the run is not wanted.
        await asyncio.shield(self._writer.submit(lambda tx: request_cancel(tx, workspace_id, run_id, reason)))
        execution = self._dispatcher.execution(workspace_id, run_id)
        if execution is None:
            self._dispatcher.withdraw(workspace_id, run_id)
            ending = ends.failed(ends.CANCELLED, reason)
            return Receipt(await self._closer.fail(workspace_id, run_id, ending, self._dispatcher), False, ())
        children = _children(execution)
        execution.request_stop(ends.CANCELLED, reason)
        try:
            async with asyncio.timeout(self._grace + MARGIN_SECONDS):
                await execution.finished.wait()
        except TimeoutError:
            return Receipt(await self._runs.run(workspace_id, run_id), False, children, reachable=False)
        unresponsive = execution.attempt is not None and execution.attempt.unresponsive
        return Receipt(await self._runs.run(workspace_id, run_id), False, children, reachable=not unresponsive)


def _children(execution: Execution) -> tuple[tuple[str, str], ...]:
    pipeline = execution.attempt.pipeline if execution.attempt else None
    calls = pipeline.under_way if pipeline else []
    return tuple((_KINDS.get(name, "call"), str(call_id)) for call_id, name in calls)


def receipt_message(receipt: Receipt) -> run_pb2.CancelReceipt:
    """The receipt as a caller sees it."""
    if receipt.already_ended:
        state = run_pb2.STOP_STATE_ALREADY_ENDED
    elif not receipt.reachable:
        # Settled and fenced: whatever it still does counts for nothing.
        state = run_pb2.STOP_STATE_UNREACHABLE
    else:
        state = run_pb2.STOP_STATE_STOPPED if receipt.run.state.final else run_pb2.STOP_STATE_REQUESTED
    root = run_pb2.StopNode(kind="run", id=receipt.run.run_id, state=state)
    for kind, child_id in receipt.children:
        # The host's own part of a call ends with its run; a command in the box is killed with its call.
        root.children.add(
            kind=kind, id=child_id, state=run_pb2.STOP_STATE_STOPPED if receipt.run.state.final else state
        )
    return run_pb2.CancelReceipt(root=root, complete=receipt.run.state.final and receipt.reachable)
