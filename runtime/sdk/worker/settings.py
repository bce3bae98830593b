"""What a worker learns from its environment."""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.sdk.components.knowledge import KnowledgeEngine
from portway.runtime.sdk.components.listener import EventListener
from portway.runtime.sdk.components.parser import Parser
from portway.runtime.sdk.components.tool import Tool
from portway.runtime.sdk.runner import AgentRunner

SOCKET = "PORTWAY_SOCKET"
COOKIE_FILE = "PORTWAY_COOKIE_FILE"
PLUGIN = "PORTWAY_PLUGIN"
COMPONENTS = "PORTWAY_COMPONENTS"
DATA = "PORTWAY_DATA"

RUNNER, TOOL = "AgentRunner", "Tool"
_BASES: dict[str, type] = {
    RUNNER: AgentRunner,
    TOOL: Tool,
    "KnowledgeEngine": KnowledgeEngine,
    "Parser": Parser,
    "EventListener": EventListener,
}


class UnusableCode(Exception):
    """A component's class cannot be used; the message is for people."""


@dataclass(frozen=True, slots=True)
class ComponentCode:
    """A component and where its class is: `code` is `module:Class`."""

    kind: str
    name: str
    code: str


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    plugin_id: str
    socket: str
    cookie: str
    components: Sequence[ComponentCode]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "WorkerSettings":
        return cls(
            plugin_id=environment[PLUGIN],
            socket=environment[SOCKET],
            cookie=Path(environment[COOKIE_FILE]).read_text().strip(),
            components=[ComponentCode(**one) for one in json.loads(environment[COMPONENTS])],
        )


def load(component: ComponentCode) -> type:
    """The class of a component. Raises `UnusableCode`; what the module itself raises passes."""
    module_name, _, class_name = component.code.partition(":")
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    base = _BASES[component.kind]
    if not isinstance(found, type):
        raise UnusableCode(f"{component.code}: the module has no class {class_name}; correct `class` in the manifest")
    if not issubclass(found, base):
        raise UnusableCode(
            f"{component.code}: is no {base.__name__}; derive it from portway.runtime.sdk.{base.__name__}"
        )
    return found
