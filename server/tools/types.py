"""What a tool is, how it is called and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from portway.server.components.scope import Backing
from portway.server.effects.types import Idempotency

# Arguments, schemas and structured results are the author's own JSON objects.
JsonObject = Mapping[str, object]


class ToolType(StrEnum):
    """Where a tool comes from."""

    NATIVE = "native"
    PLUGIN = "plugin"
    MCP = "mcp"
    SKILL = "skill"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool. `input_schema` is the JSON schema of its arguments; `unusable` says why nobody may call it;
    `permissions` are what it may ask the host for while it works."""

    name: str
    type: ToolType
    description: str
    input_schema: JsonObject
    idempotency: Idempotency
    unusable: str = ""
    permissions: frozenset[str] = frozenset()

    @property
    def needs_ledger(self) -> bool:
        """A call must be in the effect ledger before it is made: it may not be made twice."""
        return self.idempotency in (Idempotency.RECONCILABLE, Idempotency.NOT_IDEMPOTENT)


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something can be used now; if not, `reason` says why and what to do, and `absent` that it does not exist
    here at all, so that waiting for it is no use."""

    available: bool
    reason: str = ""
    absent: bool = False


@dataclass(frozen=True, slots=True)
class BoxSession:
    """The sandbox that a run works in: its name, and how it is made where it does not exist.

    `network` is '' (the profile's own), `off`, `on` or `allow_list`. `skills` are those that its agent was given; which
    of them are active is the conversation's. `mounts` are folders of the machine: source, target, writable.
    """

    workspace_id: str
    session_id: str
    profile: str = ""
    network: str = ""
    network_allow: tuple[str, ...] = ()
    read_only: bool = False
    image: str = ""
    skills: tuple[str, ...] = ()
    conversation_id: str = ""
    mounts: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolScope:
    """For whom a call is made. `session` is `None` where the agent has no box; `skills` are those it may use.
    `backing` is the run, for what a tool asks on its behalf."""

    workspace_id: str
    run_id: str
    session: BoxSession | None = None
    agent_id: str = ""
    conversation_id: str = ""
    skills: tuple[str, ...] = ()
    runner_id: str = ""
    backing: Backing | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `effect_id` is the same in every attempt to make this call, and of no other call."""

    name: str
    arguments: JsonObject
    effect_id: str
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """A short line for people; `fraction` is 0 to 1 where it is known."""

    text: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class PartialText:
    """A piece of output, provisional: the result holds it again."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolFile:
    """A file that a tool made, not kept yet."""

    name: str
    mime_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The end of a call. `text` is for the model; `is_error` means that the tool says it failed, and the text how."""

    text: str
    data: JsonObject = field(default_factory=dict)
    is_error: bool = False
    replayed: bool = False
    files: tuple[ToolFile, ...] = ()


ToolEvent = ToolProgress | PartialText | ToolResult
