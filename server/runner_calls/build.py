"""Puts together what runs can ask for."""

from portway.server.interactions.build import DecisionParts
from portway.server.models.kept.directory import ModelDirectory
from portway.server.parts import Stores
from portway.server.runner_calls.artifacts import ArtifactCalls
from portway.server.runner_calls.box import BoxCalls
from portway.server.runner_calls.files import FileCalls
from portway.server.runner_calls.history import HistoryCalls
from portway.server.runner_calls.models import ModelCalls
from portway.server.runner_calls.operations import RunnerCalls
from portway.server.runner_calls.prompt import PromptCalls, SteeringCalls
from portway.server.runner_calls.state import StateCalls
from portway.server.runner_calls.storage import StorageCalls
from portway.server.runner_calls.tool_results import ResultKeeper
from portway.server.runner_calls.tools import ToolCalls
from portway.server.tools.registry import ToolRegistry
from portway.server.workspaces.access import Access


def build_calls(
    stores: Stores, models: ModelDirectory, tools: ToolRegistry, access: Access, people: DecisionParts, box: BoxCalls
) -> RunnerCalls:
    writer = stores.database.writer
    artifacts = ArtifactCalls(stores.database, stores.artifacts, stores.blobs, access.quotas)
    return RunnerCalls(
        models=ModelCalls(models, artifacts, stores.blobs, access.switches),
        tools=ToolCalls(writer, tools, access.switches, people.gate, ResultKeeper(writer, artifacts, stores.blobs)),
        history=HistoryCalls(stores.transcript, stores.events, stores.cursors),
        artifacts=artifacts,
        state=StateCalls(writer, stores.state),
        storage=StorageCalls(writer, stores.storage, stores.blobs),
        prompt=PromptCalls(),
        steering=SteeringCalls(writer),
        files=FileCalls(stores.artifacts, stores.blobs),
        box=box,
        actions=people.action_calls,
        interactions=people.interaction_calls,
        approvals=people.approval_calls,
    )
