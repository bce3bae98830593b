"""What a fake host has: models that say what a test wants, tools, history, state, storage, files."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from portway.rpc.errors import PortwayError
from portway.runtime.sdk.types.content import ArtifactRef, MessageRole, text_part
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.interactions import Interaction, PlatformAction
from portway.runtime.sdk.types.models import ModelAnswer, ModelMessage, ModelRequest, ModelToolCall
from portway.runtime.sdk.types.pulled import KnowledgeHit, SteeringMessage, ToolResult, TranscriptItem, WantedApproval
from portway.runtime.sdk.types.resources import ModelResource, ToolResource
from portway.runtime.sdk.types.results import FinishReason
from portway.runtime.sdk.types.usage import Usage

ToolFunction = Callable[[Json], Awaitable[ToolResult | str]]
# What a model answers to a request; an exception is raised to the runner.
ModelFunction = Callable[[ModelRequest], ModelAnswer | PortwayError]
# A score for each text.
RerankFunction = Callable[[str, Sequence[str]], Sequence[float] | PortwayError]


@dataclass(slots=True)
class Things:
    """Give what the run should find; afterwards look at what it left."""

    models: Sequence[ModelResource] = (ModelResource("model", "llm", "fake", 32_000, True, True),)
    model: ModelFunction | None = None
    tools: Mapping[str, ToolFunction] = field(default_factory=dict)
    tool_schemas: Sequence[ToolResource] = ()
    history: Sequence[TranscriptItem] = ()
    knowledge: Mapping[str, Sequence[KnowledgeHit]] = field(default_factory=dict)
    rerank: RerankFunction | None = None
    count_tokens: Callable[[ModelRequest], int] | None = None
    # Calls that this host does not serve, by their names in `RunCall`: they answer as not implemented.
    missing_calls: frozenset[str] = frozenset()
    artifacts: dict[str, tuple[ArtifactRef, bytes]] = field(default_factory=dict)
    state: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)
    storage: dict[tuple[int, str], bytes] = field(default_factory=dict)
    steering: list[SteeringMessage] = field(default_factory=list)
    # What people decide when the run asks them; nobody decides where it is not given.
    approve: Callable[[WantedApproval], bool] | None = None
    # Left behind by the run.
    model_requests: list[ModelRequest] = field(default_factory=list)
    tool_calls: list[tuple[str, Json, str]] = field(default_factory=list)
    tool_results: dict[str, ToolResult | None] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    refusals: list[PortwayError] = field(default_factory=list)
    actions: dict[str, PlatformAction] = field(default_factory=dict)
    question: Interaction | None = None
    approvals: dict[str, WantedApproval] = field(default_factory=dict)


def says(text: str, *, finish: FinishReason = FinishReason.STOP) -> ModelAnswer:
    """A model's answer with 10 tokens of input and as many tokens of output as it has words."""
    usage = Usage(input_tokens=10, output_tokens=len(text.split()))
    return ModelAnswer(ModelMessage.assistant(text), finish, usage, "model")


def wants(*calls: tuple[str, str], text: str = "") -> ModelAnswer:
    """A model's answer that asks for tools: pairs of a name and arguments as JSON text."""
    asked = tuple(ModelToolCall(f"call_{index}", tool, arguments) for index, (tool, arguments) in enumerate(calls))
    parts = (text_part(text),) if text else ()
    message = ModelMessage(MessageRole.ASSISTANT, parts, asked)
    return ModelAnswer(message, FinishReason.STOP, Usage(input_tokens=10, output_tokens=1), "model")


def in_turn(*answers: ModelAnswer | PortwayError) -> ModelFunction:
    """A model that gives these answers one after the other, and fails the test when it is asked once more."""
    left = list(answers)

    def answer(request: ModelRequest) -> ModelAnswer | PortwayError:
        assert left, "the model was asked more often than the test has answers"
        return left.pop(0)

    return answer


def transcript(*texts: str) -> Sequence[TranscriptItem]:
    """A conversation in which a person and the agent speak in turn, the person first."""
    roles = (MessageRole.USER, MessageRole.ASSISTANT)
    return tuple(
        TranscriptItem(f"msg_{index}", role=roles[index % 2], kind="message", content=text, cursor=str(index))
        for index, text in enumerate(texts)
    )
