"""Which binding holds for an event. Pure: the same bindings and the same event give the same answer.

The more specific scope wins; within a scope, the one with more filters. Two that are equal are named, and neither wins.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from portway.server.bindings.patterns import is_found
from portway.server.bindings.types import Binding, BindingFilters, BindingScope
from portway.server.events.facts import EventFacts
from portway.server.events.routing import Candidate, Resolution

MAX_CANDIDATES = 200
_GROUPS = ("group", "channel")


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding with the event types that count, its own or its agent's. `missing`: there is no such agent."""

    binding: Binding
    event_types: tuple[str, ...]
    missing: bool = False

    @property
    def specificity(self) -> tuple[int, int]:
        """Higher wins."""
        return self.binding.spec.scope.rank, filter_count(self.binding.spec.filters)


def resolve(facts: EventFacts, bindings: Iterable[Bound]) -> Resolution:
    """The winner, everything that was looked at (most specific first), and why."""
    ordered = sorted(bindings, key=lambda one: one.binding.binding_id)
    ordered.sort(key=lambda one: one.specificity, reverse=True)
    looked_at = [(one, obstacle(facts, one)) for one in ordered]
    fitting = [one for one, reason in looked_at if not reason]
    if not fitting:
        reason = f"none of {len(looked_at)} bindings fits" if looked_at else "there are no bindings"
        return Resolution(reason=reason, candidates=_candidates(looked_at, None))
    best = [one for one in fitting if one.specificity == fitting[0].specificity]
    if len(best) > 1:
        names = tuple(one.binding.binding_id for one in best)
        return Resolution(
            reason=f"{' and '.join(names)} fit equally well",
            candidates=_candidates(looked_at, None),
            ambiguous=names,
        )
    winner = best[0].binding
    return Resolution(
        binding_id=winner.binding_id,
        agent_id=winner.spec.agent_id,
        reason=_why(winner, len(fitting)),
        candidates=_candidates(looked_at, winner),
    )


def obstacle(facts: EventFacts, bound: Bound) -> str:
    """Why the binding does not fit the event; '' where it does."""
    spec = bound.binding.spec
    if spec.disabled:
        return "it is switched off"
    if spec.scope_id and spec.scope_id != _place(facts, spec.scope):
        return f"it is for the {spec.scope} {spec.scope_id!r}"
    if facts.type not in bound.event_types:
        return f"it is for {', '.join(bound.event_types)}"
    if bound.missing and spec.scope is BindingScope.GLOBAL:
        return f"this workspace has no agent {spec.agent_id!r}"
    return _filtered_out(facts, spec.filters)


def clash(one: Bound, other: Bound) -> bool:
    """Whether some event could fit both equally well, as far as can be told without the event."""
    mine, theirs = one.binding.spec, other.binding.spec
    return (
        not mine.disabled
        and not theirs.disabled
        and (mine.scope, mine.scope_id) == (theirs.scope, theirs.scope_id)
        and one.specificity == other.specificity
        and bool(set(one.event_types) & set(other.event_types))
        and not _are_disjoint(mine.filters, theirs.filters)
    )


def filter_count(filters: BindingFilters) -> int:
    """How many conditions a binding makes."""
    return sum(
        bool(one)
        for one in (
            filters.sender_ids,
            filters.group_ids,
            filters.prefix,
            filters.mention,
            filters.pattern,
            filters.surfaces,
        )
    )


def _place(facts: EventFacts, scope: BindingScope) -> str:
    places = {
        BindingScope.BOT: facts.bot_id,
        BindingScope.CHANNEL: facts.channel_id,
        BindingScope.CONVERSATION: facts.conversation_id,
    }
    return places.get(scope, "")


def _filtered_out(facts: EventFacts, filters: BindingFilters) -> str:
    surface = facts.surface or "api"
    if filters.surfaces and surface not in filters.surfaces:
        return f"it is not for the surface {surface!r}"
    if filters.sender_ids and facts.actor_id not in filters.sender_ids:
        return f"it is not for the sender {facts.actor_id!r}"
    in_group = facts.launcher_id if facts.launcher_type in _GROUPS else ""
    if filters.group_ids and in_group not in filters.group_ids:
        return f"it is not for the group {in_group!r}" if in_group else "it is for groups"
    # Whoever writes to the bot alone has addressed it.
    if filters.mention and not facts.addressed and facts.launcher_type != "person":
        return "the bot was not addressed"
    if filters.prefix and not facts.text.startswith(filters.prefix):
        return f"the text does not begin with {filters.prefix!r}"
    if filters.pattern and not is_found(filters.pattern, facts.text):
        return "the text does not match its pattern"
    return ""


def _are_disjoint(mine: BindingFilters, theirs: BindingFilters) -> bool:
    """No event fits both. Two different patterns may or may not overlap; events tell, so these are let pass."""
    pairs = ((mine.sender_ids, theirs.sender_ids), (mine.group_ids, theirs.group_ids), (mine.surfaces, theirs.surfaces))
    if any(one and other and not set(one) & set(other) for one, other in pairs):
        return True
    if mine.prefix and theirs.prefix and not _one_begins_the_other(mine.prefix, theirs.prefix):
        return True
    return bool(mine.pattern and theirs.pattern and mine.pattern != theirs.pattern)


def _one_begins_the_other(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _why(winner: Binding, fitting: int) -> str:
    if fitting == 1:
        return f"{winner.binding_id} is the only binding that fits"
    return f"{winner.binding_id} is the most specific of {fitting} that fit (scope {winner.spec.scope})"


def _candidates(looked_at: Sequence[tuple[Bound, str]], winner: Binding | None) -> tuple[Candidate, ...]:
    return tuple(_candidate(bound.binding, reason, winner) for bound, reason in looked_at[:MAX_CANDIDATES])


def _candidate(binding: Binding, obstacle: str, winner: Binding | None) -> Candidate:
    verdict = "it fits"
    if winner is not None:
        verdict = "it won" if binding is winner else f"it fits, but {winner.binding_id} is more specific"
    return Candidate(
        binding_id=binding.binding_id,
        agent_id=binding.spec.agent_id,
        scope=binding.spec.scope,
        fits=not obstacle,
        reason=obstacle or verdict,
    )
