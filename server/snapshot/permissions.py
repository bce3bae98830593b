"""Permissions of runners: names of operations, and how far they reach."""

from dataclasses import dataclass
from enum import IntEnum


class HistoryScope(IntEnum):
    """How far back a run may look. A smaller one is narrower."""

    THREAD = 1
    CONVERSATION = 2
    WORKSPACE = 3


@dataclass(frozen=True, slots=True)
class Permissions:
    """`allowed` holds names of the contract's flags, such as `history_page`: to ask is one look into a set."""

    allowed: frozenset[str] = frozenset()
    history_scope: HistoryScope = HistoryScope.CONVERSATION
    platform_actions: frozenset[str] = frozenset()


# Operations that a runner without the capability cannot use, whatever its manifest permits.
PRECONDITIONS = {
    "tool_calling": frozenset({"tools_detail", "tools_call"}),
    "knowledge_retrieval": frozenset({"knowledge_bases_list", "knowledge_bases_retrieve"}),
    "interactions": frozenset({"interactions_request"}),
}


class Narrowing:
    """Takes permissions away, layer by layer, and remembers why. Nothing here can add one."""

    def __init__(self, permissions: Permissions) -> None:
        self._allowed = set(permissions.allowed)
        self._scope = permissions.history_scope
        self._actions = set(permissions.platform_actions)
        self.removed: list[str] = []

    def take(self, names: frozenset[str], why: str) -> None:
        gone = sorted(self._allowed & names)
        if gone:
            self._allowed.difference_update(gone)
            self.removed.append(f"{', '.join(gone)}: {why}")

    def limit_history(self, scope: HistoryScope, why: str) -> None:
        if scope < self._scope:
            self.removed.append(f"history beyond the {scope.name.lower()}: {why}")
            self._scope = scope

    def keep_actions(self, names: frozenset[str], why: str) -> None:
        gone = sorted(self._actions - names)
        if gone:
            self._actions &= names
            self.removed.append(f"platform actions {', '.join(gone)}: {why}")

    def result(self) -> Permissions:
        return Permissions(frozenset(self._allowed), self._scope, frozenset(self._actions))
