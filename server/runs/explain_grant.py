"""How a run came to its agent, and what each layer left of what it may do."""

from portway.server.runs.types import Attempt, Run
from portway.v1 import binding_pb2, event_pb2, run_context_pb2, run_snapshot_pb2

MAX_CONSIDERED = 20


def binding_step(run: Run, snapshot: run_snapshot_pb2.RunSnapshot | None) -> event_pb2.ExplainStep:
    """Who chose the agent, and which other bindings were looked at; those are known from the first attempt on."""
    chose = f"the binding {run.binding_id} chose" if run.binding_id else "the caller named"
    step = event_pb2.ExplainStep(stage="binding", ok=True, ref=run.binding_id or run.agent_id)
    step.time.FromMicroseconds(run.create_time)
    step.summary = f"{chose} the agent {run.agent_id}"
    if snapshot is not None and snapshot.HasField("binding"):
        found = snapshot.binding
        step.summary += f"; {len(found.candidates)} bindings were considered"
        step.details.update({"reason": found.reason, "considered": _considered(found)})
    return step


def grant_steps(
    run: Run, snapshot: run_snapshot_pb2.RunSnapshot, context: run_context_pb2.RunContext
) -> list[event_pb2.ExplainStep]:
    """One for each layer, in order, and one for what was left."""
    steps = []
    for layer in snapshot.layers:
        taken = f"takes away {', '.join(layer.removed)}" if layer.removed else "takes nothing away"
        steps.append(_snapshot_step(run, f"{layer.name} {taken}"))
    may = f"{len(context.resources.models)} models, {len(context.resources.tools)} tools"
    return [*steps, _snapshot_step(run, f"it may use {may}")]


def attempt_steps(attempts: list[Attempt]) -> list[event_pb2.ExplainStep]:
    """Where each began, and what became of it."""
    steps = []
    for one in attempts:
        became = f": {one.outcome}" if one.outcome else ""
        summary = f"attempt {one.attempt} is {one.state}{became}"
        step = event_pb2.ExplainStep(stage="run", summary=summary, ref=one.run_id)
        step.ok = one.state.value != "superseded"
        step.time.FromMicroseconds(one.start_time)
        steps.append(step)
    return steps


def _snapshot_step(run: Run, summary: str) -> event_pb2.ExplainStep:
    step = event_pb2.ExplainStep(stage="snapshot", summary=summary, ok=True, ref=run.run_id)
    step.time.FromMicroseconds(run.start_time)
    return step


def _considered(found: binding_pb2.BindingExplanation) -> list[str]:
    return [f"{one.binding_id}: {one.reason}" for one in found.candidates[:MAX_CONSIDERED]]
