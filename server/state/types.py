"""Small JSON that an agent keeps between runs, by scope. Keyed by agent, never by binding."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a value belongs to."""

    CONVERSATION = "conversation"
    ACTOR = "actor"
    SUBJECT = "subject"
    RUNNER = "runner"


@dataclass(frozen=True, slots=True)
class StateSpace:
    """One scope of one agent. `scope_key` names the conversation (and thread), actor or subject; '' for RUNNER."""

    workspace_id: str
    agent_id: str
    scope: Scope
    scope_key: str


@dataclass(frozen=True, slots=True)
class StateValue:
    """`value_json` is JSON text; `version` grows with every write of the key, also over a deletion."""

    key: str
    value_json: str
    version: int
    update_time: int


ANY_VERSION = -1
"""Write whatever the version is. 0 as expected version means: the key must not exist."""
