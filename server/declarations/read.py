"""The sections `agents`, `bindings` and `schedules` of the configuration file, in the shapes of the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from portway.rpc.configuration import ConfigurationError
from portway.rpc.written import message_from
from portway.server.agents import wire as agents_wire
from portway.server.agents.checks import Models, violations_of
from portway.server.bindings import wire as bindings_wire
from portway.server.bindings.manage import check_spec
from portway.server.schedules import wire as schedules_wire
from portway.server.schedules.declare import read_schedule_draft
from portway.v1 import agent_pb2, binding_pb2


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file declares, checked as far as it can be before the runtime is there."""

    agents: tuple[agents_wire.Draft, ...] = ()
    bindings: tuple[bindings_wire.Draft, ...] = ()
    schedules: tuple[schedules_wire.Draft, ...] = ()


def read_declared(sections: Mapping[str, object], models: Models) -> Declared:
    """Raises ConfigurationError naming the place of the first mistake."""
    agents = tuple(_agent(item, f"agents[{index}]", models) for index, item in _items(sections, "agents"))
    bindings = tuple(_binding(item, f"bindings[{index}]") for index, item in _items(sections, "bindings"))
    schedules = tuple(read_schedule_draft(item, f"schedules[{index}]") for index, item in _items(sections, "schedules"))
    _refuse_twice([draft.agent_id for draft in agents], "agents", "agent_id")
    _refuse_twice([draft.spec.name for draft in agents], "agents", "name")
    _refuse_twice([draft.binding_id for draft in bindings], "bindings", "binding_id")
    _refuse_twice([draft.schedule_id for draft in schedules], "schedules", "schedule_id")
    _refuse_twice([draft.spec.name for draft in schedules], "schedules", "name")
    return Declared(agents, bindings, schedules)


def _items(sections: Mapping[str, object], section: str) -> Sequence[tuple[int, object]]:
    found = sections.get(section)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise ConfigurationError(f"section `{section}` must be a list")
    return list(enumerate(found))


def _agent(written: object, place: str, models: Models) -> agents_wire.Draft:
    message = message_from(agent_pb2.Agent, written, place)
    draft = agents_wire.draft_of(message)
    if not draft.agent_id:
        raise ConfigurationError(f"`{place}.agent_id` is missing; it is how bindings name the agent")
    if not draft.spec.name:
        draft = replace(draft, spec=replace(draft.spec, name=draft.agent_id))
    for violation in violations_of(draft.spec, models):
        raise ConfigurationError(f"`{place}.{violation.field.removeprefix('agent.')}` {violation.description}")
    return draft


def _binding(written: object, place: str) -> bindings_wire.Draft:
    message = message_from(binding_pb2.Binding, written, place)
    draft = bindings_wire.draft_of(message)
    if not draft.binding_id:
        raise ConfigurationError(f"`{place}.binding_id` is missing; any name of your own will do")
    for violation in check_spec(draft.spec):
        raise ConfigurationError(f"`{place}.{violation.field.removeprefix('binding.')}` {violation.description}")
    return draft


def _refuse_twice(names: Sequence[str], section: str, key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"section `{section}`: {key} `{name}` stands there twice")
