"""Refusing bindings that would answer the same event equally well, before any event meets them."""

from collections.abc import Iterable

from portway.rpc.errors import Conflict, NotFound, Reason
from portway.server.agents.store import read_agent
from portway.server.agents.types import Agent
from portway.server.bindings.directory import bound_to
from portway.server.bindings.resolve import Bound, clash
from portway.server.bindings.store import read_considered
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding
from portway.server.storage_engine.transaction import ReadTransaction
from portway.server.workspaces.types import DEFAULT_WORKSPACE


def refuse_clash(tx: ReadTransaction, changed: Binding) -> None:
    """In the unit that saves it. Raises Conflict (BINDING_AMBIGUOUS) naming both."""
    refuse_clashes(tx, changed.workspace_id, (changed,))


def refuse_clashes(tx: ReadTransaction, workspace_id: str, changed: Iterable[Binding]) -> None:
    """The same for several, such as all that name an agent whose event types changed."""
    ours = [_bound(tx, workspace_id, binding) for binding in changed]
    ids = {one.binding.binding_id for one in ours}
    others = [
        _bound(tx, workspace_id, binding)
        for binding in read_considered(tx, workspace_id)
        if binding.binding_id not in ids
    ]
    for index, one in enumerate(ours):
        for other in (*others, *ours[:index]):
            if clash(one, other):
                raise _ambiguous(one.binding, other.binding)


def _bound(tx: ReadTransaction, workspace_id: str, binding: Binding) -> Bound:
    # A global binding means the agent of each workspace; the default one stands for all of them here.
    home = DEFAULT_WORKSPACE if workspace_id == GLOBAL_WORKSPACE else workspace_id
    try:
        agent: Agent | None = read_agent(tx, home, binding.spec.agent_id)
    except NotFound:
        agent = None
    return bound_to(binding, agent)


def _ambiguous(one: Binding, other: Binding) -> Conflict:
    where = f"{one.spec.scope} {one.spec.scope_id!r}" if one.spec.scope_id else str(one.spec.scope)
    return Conflict(
        f"The bindings {one.binding_id} and {other.binding_id} are for the same scope ({where}), and some events would "
        "fit both equally well. Give one of them another filter or a narrower scope, or disable it.",
        reason=Reason.BINDING_AMBIGUOUS,
        facts={"binding_1": one.binding_id, "binding_2": other.binding_id},
    )
