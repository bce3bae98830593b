"""The receipt of a cancelled run: what was asked to stop, and what is known to have stopped."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from portway.rpc.errors import DeadlineExceeded, PortwayError, Unavailable
from portway.server.approvals.store import Approvals
from portway.server.approvals.types import ApprovalState
from portway.server.interactions.store import Interactions
from portway.server.interactions.types import InteractionState
from portway.server.runner_calls.holdings import Held
from portway.server.runs.execute import Execution
from portway.server.runs.types import Run
from portway.v1 import run_pb2

# How long others may take to say what became of their part, all of them together.
LOOK_SECONDS = 5.0
_LOOKS_AT_ONCE = 16
_READ = 1_000
_KINDS = {
    "stream_model": "model_call",
    "invoke_model": "model_call",
    "embed_texts": "model_call",
    "rerank_documents": "model_call",
    "run_box": "box_stream",
}

StopState: TypeAlias = "run_pb2.StopState.ValueType"


@dataclass(frozen=True, slots=True)
class Stopped:
    """One thing and what is known of it. `under` as in `Held`."""

    kind: str
    part_id: str
    state: StopState
    under: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The run as it is then, what was below it, and the receipts of runs that it had started."""

    run: Run
    already_ended: bool = False
    reachable: bool = True
    parts: tuple[Stopped, ...] = ()
    children: tuple["Receipt", ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What people had not decided or answered when the run was asked to stop."""

    approvals: tuple[str, ...] = ()
    interactions: tuple[str, ...] = ()


class Inquiry:
    """Asks what has become of everything that a run had begun."""

    def __init__(self, approvals: Approvals, interactions: Interactions) -> None:
        self._approvals = approvals
        self._interactions = interactions

    async def asked(self, run: Run) -> Asked:
        """Before the run is stopped."""
        if not run.attempt:
            return Asked()
        approvals = await self._approvals.of_run(run.workspace_id, run.run_id, _READ)
        questions = await self._interactions.of_run(run.workspace_id, run.run_id)
        return Asked(
            tuple(one.approval_id for one in approvals if one.state is ApprovalState.PENDING),
            tuple(one.interaction_id for one in questions if one.state is InteractionState.OPEN),
        )

    async def people(self, run: Run, asked: Asked) -> list[Stopped]:
        """After it: what nobody needs to decide or answer any more."""
        found: list[Stopped] = []
        if asked.approvals:
            now = {one.approval_id: one for one in await self._approvals.of_run(run.workspace_id, run.run_id, _READ)}
            found += [
                Stopped("approval", name, _over(now[name].state is not ApprovalState.PENDING))
                for name in asked.approvals
                if name in now
            ]
        if asked.interactions:
            questions = await self._interactions.of_run(run.workspace_id, run.run_id)
            states = {one.interaction_id: one.state for one in questions}
            found += [
                Stopped("interaction", name, _over(states.get(name) is not InteractionState.OPEN))
                for name in asked.interactions
            ]
        return found

    async def parts(self, execution: Execution, over: bool) -> list[Stopped]:
        """What the attempt had begun. `over`: it is settled, so the host's own part of everything has ended."""
        attempt = execution.attempt
        if attempt is None:
            return []
        room = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(held: Held) -> Stopped:
            async with room:
                return Stopped(held.kind, held.part_id, await _state(held, over), held.under)

        return list(await asyncio.gather(*(look(held) for held in attempt.scope.held)))


def calls_of(execution: Execution) -> list[Stopped]:
    """Calls under way that hold nothing elsewhere: they end with the run. Asked before it is stopped."""
    pipeline = execution.attempt.pipeline if execution.attempt else None
    under_way = pipeline.under_way if pipeline else []
    stopped = run_pb2.STOP_STATE_STOPPED
    return [
        Stopped(_KINDS.get(name, "call"), str(call_id), stopped) for call_id, name in under_way if name != "call_tool"
    ]


async def _state(held: Held, over: bool) -> StopState:
    if not over:
        return run_pb2.STOP_STATE_REQUESTED
    if held.look is None:
        return run_pb2.STOP_STATE_REQUESTED if held.remote else run_pb2.STOP_STATE_STOPPED
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await held.look()
    except (Unavailable, DeadlineExceeded, TimeoutError):
        return run_pb2.STOP_STATE_UNREACHABLE
    except PortwayError:
        # Somebody answered, and does not know.
        return run_pb2.STOP_STATE_REQUESTED
    return run_pb2.STOP_STATE_STOPPED


def _over(over: bool) -> StopState:
    return run_pb2.STOP_STATE_STOPPED if over else run_pb2.STOP_STATE_REQUESTED


def receipt_message(receipt: Receipt) -> run_pb2.CancelReceipt:
    """The receipt as a caller sees it."""
    root = _node(receipt)
    return run_pb2.CancelReceipt(root=root, complete=all(state in _DONE for state in _states(root)))


_DONE = (run_pb2.STOP_STATE_STOPPED, run_pb2.STOP_STATE_ALREADY_ENDED)


def _node(receipt: Receipt) -> run_pb2.StopNode:
    if receipt.already_ended:
        state = run_pb2.STOP_STATE_ALREADY_ENDED
    elif not receipt.reachable:
        # Settled and fenced: whatever it still does counts for nothing.
        state = run_pb2.STOP_STATE_UNREACHABLE
    else:
        state = run_pb2.STOP_STATE_STOPPED if receipt.run.state.final else run_pb2.STOP_STATE_REQUESTED
    root = run_pb2.StopNode(kind="run", id=receipt.run.run_id, state=state)
    above = {part.under for part in receipt.parts if part.under}
    nodes: dict[str, run_pb2.StopNode] = {}
    for part in receipt.parts:
        if not part.under:
            node = root.children.add(kind=part.kind, id=part.part_id, state=part.state)
            if part.part_id in above:
                nodes[part.part_id] = node
    for part in receipt.parts:
        if part.under:
            nodes.get(part.under, root).children.add(kind=part.kind, id=part.part_id, state=part.state)
    for node in nodes.values():
        # A call is over when what it had begun is.
        node.state = max([node.state, *(child.state for child in node.children)], key=_doubt)
    root.children.extend(_node(child) for child in receipt.children)
    return root


def _doubt(state: StopState) -> int:
    order = (*_DONE, run_pb2.STOP_STATE_REQUESTED, run_pb2.STOP_STATE_UNREACHABLE)
    return order.index(state)


def _states(node: run_pb2.StopNode) -> Iterable[StopState]:
    yield node.state
    for child in node.children:
        yield from _states(child)
