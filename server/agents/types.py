"""An agent: which runner, how it is configured, and what it may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ManagedBy(StrEnum):
    """Who keeps a record: what is not the API's is read-only in it. HOST: made at first start."""

    API = "api"
    CONFIG = "config"
    HOST = "host"


class QueuePolicy(StrEnum):
    """What happens to a message that arrives while a run of its conversation is under way."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"
    REJECT = "reject"


class EditPolicy(StrEnum):
    """What an edited message does."""

    STEER = "steer"
    SUPERSEDE = "supersede"
    IGNORE = "ignore"


class InterruptedPolicy(StrEnum):
    """What happens to a run that was executing when the host died. RUNNER: what the runner's manifest says."""

    RUNNER = "runner"
    RETRY = "retry"
    FAIL = "fail"


class HistoryScope(StrEnum):
    """How far back history goes."""

    THREAD = "thread"
    CONVERSATION = "conversation"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """What an agent may use beyond what its configuration selects.

    `native:*`, `plugin:author/name/*` and `mcp:server/*` in `tools` take all of a kind.
    """

    model_ids: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    denied_tools: tuple[str, ...] = ()
    knowledge_base_ids: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    file_ids: tuple[str, ...] = ()
    storage_plugin: bool = True
    storage_workspace: bool = False
    storage_binding: bool = False
    history_scope: HistoryScope = HistoryScope.CONVERSATION
    approved_tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePolicy:
    """Which scopes of state an agent has: names of `state.types.Scope`."""

    disabled: bool = False
    scopes: tuple[str, ...] = ("conversation", "actor")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How output reaches people.

    `max_message_size` 0: the surface's own. `approved_actions`: those that a person must approve.
    """

    streaming_disabled: bool = False
    reply_disabled: bool = False
    max_message_size: int = 0
    interactions_disabled: bool = False
    platform_actions: tuple[str, ...] = ()
    approved_actions: tuple[str, ...] = ()
    default_conversation_id: str = ""
    delivery_ttl_seconds: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxNetwork:
    """What commands may reach. `mode`: '' for the profile's own, `off`, `on` or `allow_list`."""

    mode: str = ""
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A directory of the machine that sessions see at `target`."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxPolicy:
    """What an agent may do in the box. No tools, no shell: that is the default."""

    tools: tuple[str, ...] = ()
    profile: str = ""
    network: BoxNetwork = BoxNetwork()
    read_only: bool = False
    approved_commands: tuple[str, ...] = ()
    session_template: str = ""
    image: str = ""
    mounts: tuple[SharedFolder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """Who may approve besides operators: `approver_ids` (users, actors), and whoever asked (`sender`)."""

    approver_ids: tuple[str, ...] = ()
    sender: bool = False
    operators_excluded: bool = False
    time_limit_seconds: float = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a run that failed in a retryable way is tried; the delay doubles with each further attempt."""

    max_attempts: int = 1
    first_delay_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundGuards:
    """What refuses events before an agent sees them. Empty lists refuse nobody; 0 is no limit."""

    allowed_sender_ids: tuple[str, ...] = ()
    denied_sender_ids: tuple[str, ...] = ()
    allowed_group_ids: tuple[str, ...] = ()
    denied_group_ids: tuple[str, ...] = ()
    messages_per_window: int = 0
    window_seconds: float = 60.0
    denied_inbound_patterns: tuple[str, ...] = ()
    masked_outbound_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeTexts:
    """What people see when no answer comes, by BCP 47 tag; empty: the host's own texts."""

    failed: Mapping[str, str] = field(default_factory=dict)
    interrupted: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    cancelled: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run, or a month, may spend; nothing where there is no limit."""

    cost_micros: int | None = None
    currency: str = ""
    tokens: int | None = None
    calls: int | None = None
    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """The model for a name that a program asks the model gateway for; `*` in the pattern stands for any text."""

    pattern: str
    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """All configuration and policy of an agent. `config_json` is the runner author's own shape, as JSON text.

    `budget` and `conversation_budget` are for a month, `run_budget` for one run.
    """

    name: str
    runner_id: str
    description: str = ""
    config_json: str = "{}"
    resource_policy: ResourcePolicy = ResourcePolicy()
    state_policy: StatePolicy = StatePolicy()
    delivery_policy: DeliveryPolicy = DeliveryPolicy()
    box_policy: BoxPolicy = BoxPolicy()
    event_types: tuple[str, ...] = ("message.received",)
    queue_policy: QueuePolicy = QueuePolicy.QUEUE
    timeout_seconds: float = 300.0
    retry_policy: RetryPolicy = RetryPolicy()
    on_interrupted: InterruptedPolicy = InterruptedPolicy.RUNNER
    edit_policy: EditPolicy = EditPolicy.STEER
    guards: InboundGuards = InboundGuards()
    notices: NoticeTexts = NoticeTexts()
    run_budget: Budget = Budget()
    conversation_idle_seconds: float = 0.0
    disabled: bool = False
    locale: str = "en"
    time_zone: str = "UTC"
    approval_policy: ApprovalPolicy = ApprovalPolicy()
    budget: Budget = Budget()
    conversation_budget: Budget = Budget()
    model_aliases: tuple[ModelAlias, ...] = ()


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as it is kept. `revision` grows with every change; times are microseconds."""

    workspace_id: str
    agent_id: str
    revision: int
    managed_by: ManagedBy
    spec: AgentSpec
    create_time: int
    update_time: int
