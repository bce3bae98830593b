"""What is the same in the contexts and snapshots of all runs of an agent, as messages that are made once.

The policy layer is made anew whenever the agent, its runner or the tools on offer change, so one that was seen before
stands for all of them.
"""

import hashlib
from dataclasses import dataclass

from portway.server.models.types import Capability
from portway.server.snapshot.explained import layer_message
from portway.server.snapshot.freeze import Snapshot
from portway.server.snapshot.grants import Layer
from portway.server.storage_engine.documents import to_json
from portway.server.tools.wire import resource_to_wire
from portway.v1 import run_context_pb2, run_snapshot_pb2, runner_pb2


@dataclass(frozen=True, slots=True)
class Projection:
    """Messages to copy from; nobody changes them."""

    policy: Layer
    resources: run_context_pb2.RunResources
    static_refs: tuple[run_context_pb2.StaticRef, ...]
    kept: run_snapshot_pb2.RunSnapshot


class Projections:
    """Keeps the last ones."""

    def __init__(self, capacity: int = 1_000) -> None:
        self._capacity = capacity
        self._kept: dict[tuple[int, tuple[str, ...]], Projection] = {}

    def of(self, snapshot: Snapshot) -> Projection:
        policy = snapshot.layers[1]
        # What is kept holds its layer, so the identity cannot pass to another one. An event may lack the box's tools.
        key = (id(policy), tuple(snapshot.tools))
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= self._capacity:
                self._kept.pop(next(iter(self._kept)))
            found = self._kept[key] = project(snapshot)
        return found


def project(snapshot: Snapshot) -> Projection:
    """The messages of a snapshot that do not depend on its event."""
    return Projection(snapshot.layers[1], _resources(snapshot), _static_refs(snapshot), _kept(snapshot))


def _resources(snapshot: Snapshot) -> run_context_pb2.RunResources:
    return run_context_pb2.RunResources(
        models=[
            run_context_pb2.ModelResource(
                model_id=model.model_id,
                type=model.kind,
                provider=model.provider_id,
                context_window=model.context_window or 0,
                vision=Capability.IMAGES in model.capabilities,
                tool_calling=Capability.TOOLS in model.capabilities,
                reasoning=Capability.REASONING in model.capabilities,
                max_output_tokens=model.max_output_tokens or 0,
            )
            for model in snapshot.models.values()
        ],
        tools=[resource_to_wire(tool) for tool in snapshot.tools.values()],
    )


def _static_refs(snapshot: Snapshot) -> tuple[run_context_pb2.StaticRef, ...]:
    tools = "\n".join(f"{tool.name}\0{tool.description}" for tool in snapshot.tools.values())
    models = "\n".join(snapshot.models)
    policy = f"{snapshot.agent_id}@{snapshot.agent_revision}"
    contents = {"system_policy": policy, "tool_schemas": tools, "resource_manifest": f"{models}\0{tools}"}
    version = str(snapshot.agent_revision)
    return tuple(
        run_context_pb2.StaticRef(name=name, hash=hashlib.sha256(text.encode()).hexdigest(), version=version)
        for name, text in contents.items()
    )


def _kept(snapshot: Snapshot) -> run_snapshot_pb2.RunSnapshot:
    return run_snapshot_pb2.RunSnapshot(
        layers=[layer_message(layer) for layer in snapshot.layers[:2]],
        manifest=runner_pb2.RunnerManifest.FromString(snapshot.runner.manifest),
        agent_spec_json=to_json(snapshot.spec),
        agent_revision=snapshot.agent_revision,
    )
