"""Every call that a run may make, by its name in the contract, with the shape of its request and answer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from portway.server.actions.request import ActionCalls
from portway.server.approvals.request import ApprovalCalls
from portway.server.interactions.ask import InteractionCalls
from portway.server.runner_calls.artifacts import ArtifactCalls
from portway.server.runner_calls.box import BoxCalls
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.files import FileCalls
from portway.server.runner_calls.history import HistoryCalls
from portway.server.runner_calls.models import ModelCalls
from portway.server.runner_calls.prompt import PromptCalls, SteeringCalls
from portway.server.runner_calls.scope import RunScope
from portway.server.runner_calls.state import StateCalls
from portway.server.runner_calls.storage import StorageCalls
from portway.server.runner_calls.tool_names import for_models, for_streams
from portway.server.runner_calls.tools import ToolCalls


class Shape(Enum):
    """ONE request and answer; STREAM of answers; UPLOAD of requests; BOTH of them streams."""

    ONE = auto()
    STREAM = auto()
    UPLOAD = auto()
    BOTH = auto()


@dataclass(frozen=True, slots=True)
class Operation:
    """`handler` takes (run, request), (run, request, emit), (run, requests) or (run, requests, emit), by its shape."""

    shape: Shape
    handler: Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerCalls:
    """All groups of calls."""

    models: ModelCalls
    tools: ToolCalls
    history: HistoryCalls
    artifacts: ArtifactCalls
    state: StateCalls
    storage: StorageCalls
    prompt: PromptCalls
    steering: SteeringCalls
    files: FileCalls
    box: BoxCalls
    actions: ActionCalls
    interactions: InteractionCalls
    approvals: ApprovalCalls

    def operations(self) -> Mapping[str, Operation]:
        """By the field of `RunCall`. What is not here is in the contract and not served yet."""
        one: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "invoke_model": for_models(self.models.invoke_model),
            "rerank_documents": self.models.rerank_documents,
            "embed_texts": self.models.embed_texts,
            "count_tokens": for_models(self.models.count_tokens),
            "get_tool": self.tools.get_tool,
            "page_history": self.history.page_history,
            "search_history": self.history.search_history,
            "get_event": self.history.get_event,
            "page_events": self.history.page_events,
            "get_artifact": self.artifacts.get_artifact,
            "get_state": self.state.get_state,
            "set_state": self.state.set_state,
            "delete_state": self.state.delete_state,
            "list_state": self.state.list_state,
            "delete_storage": self.storage.delete_storage,
            "list_storage": self.storage.list_storage,
            "get_prompt": self.prompt.get_prompt,
            "pull_steering": self.steering.pull_steering,
            "get_file": self.files.get_file,
            "request_action": self.actions.request_action,
            "request_interaction": self.interactions.request_interaction,
            "request_approval": self.approvals.request_approval,
        }
        stream: Mapping[str, Callable[[RunScope, Any, Emit], Awaitable[None]]] = {
            "stream_model": for_streams(self.models.stream_model),
            "call_tool": self.tools.call_tool,
            "read_artifact": self.artifacts.read_artifact,
            "get_storage": self.storage.get_storage,
            "read_file": self.files.read_file,
        }
        upload: Mapping[str, Callable[[RunScope, AsyncIterator[Any]], Awaitable[Any]]] = {
            "create_artifact": self.artifacts.create_artifact,
            "set_storage": self.storage.set_storage,
        }
        return {
            **{name: Operation(Shape.ONE, handler) for name, handler in one.items()},
            **{name: Operation(Shape.STREAM, handler) for name, handler in stream.items()},
            **{name: Operation(Shape.UPLOAD, handler) for name, handler in upload.items()},
            "run_box": Operation(Shape.BOTH, self.box.run_box),
        }
