"""Which agent answers which events."""

from dataclasses import dataclass
from enum import StrEnum

from portway.server.agents.types import ManagedBy


class BindingScope(StrEnum):
    """Where a binding holds, the most specific last."""

    GLOBAL = "global"
    WORKSPACE = "workspace"
    BOT = "bot"
    CHANNEL = "channel"
    CONVERSATION = "conversation"

    @property
    def rank(self) -> int:
        """Higher wins."""
        return list(BindingScope).index(self)


GLOBAL_WORKSPACE = "*"
"""The workspace under which bindings of scope GLOBAL are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingFilters:
    """Conditions that all must hold; an empty one holds always. `pattern` is a regular expression over the text."""

    sender_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    prefix: str = ""
    mention: bool = False
    pattern: str = ""
    surfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingSpec:
    """`scope_id` names the bot, channel or conversation; '' for the two widest scopes."""

    agent_id: str
    scope: BindingScope = BindingScope.WORKSPACE
    scope_id: str = ""
    event_types: tuple[str, ...] = ("message.received",)
    filters: BindingFilters = BindingFilters()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding as it is kept. `revision` grows with every change."""

    workspace_id: str
    binding_id: str
    revision: int
    managed_by: ManagedBy
    spec: BindingSpec
    create_time: int
    update_time: int
