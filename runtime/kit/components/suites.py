"""Which suite a component is tried with."""

from collections.abc import Sequence

from portway.runtime.kit.components import engines, listeners, parsers, tools
from portway.runtime.kit.components.trying import ComponentBehaviour
from portway.runtime.plugins.types import ComponentDefinition, ComponentKind, kind_of

CONFORMANCE = "conformance"
_GENERAL = {
    ComponentKind.TOOL: tools.GENERAL,
    ComponentKind.ENGINE: engines.GENERAL,
    ComponentKind.PARSER: parsers.GENERAL,
    ComponentKind.LISTENER: listeners.GENERAL,
}


def suite_of(component: ComponentDefinition) -> Sequence[ComponentBehaviour]:
    kind = kind_of(component)
    if kind is ComponentKind.TOOL and component.name == CONFORMANCE:
        return (*tools.GENERAL, *tools.WORDS)
    return _GENERAL[kind]
