"""What the suites of components have in common."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from portway.rpc.errors import PortwayError
from portway.runtime.kit.components.end import ComponentEnd
from portway.runtime.kit.subject import Differs, Subject
from portway.runtime.plugins.types import ComponentDefinition


@dataclass(frozen=True, slots=True)
class Tried:
    """A component under test. `definition` is what its manifest says."""

    subject: Subject
    end: ComponentEnd
    definition: ComponentDefinition

    def other(self, workspace_id: str) -> ComponentEnd:
        """The same component, asked for another workspace."""
        return ComponentEnd(self.end.channel, self.end.kind, self.end.component_id, workspace_id)

    async def generation(self) -> int:
        """Of the process that runs now."""
        return (await self.subject.plugin()).generation


@dataclass(frozen=True, slots=True)
class ComponentBehaviour:
    """One thing that is checked. `check` raises `Differs`, or what the runtime answered."""

    name: str
    check: Callable[[Tried], Awaitable[None]]


async def refusal(what: str, asked: Awaitable[object], *kinds: type[PortwayError]) -> PortwayError:
    """The refusal that is due. Raises `Differs` for an answer, or one of another meaning."""
    try:
        answer = await asked
    except PortwayError as error:
        found = error
    else:
        raise Differs(f"{what}: it was answered with {answer!r}, where {kinds[0].__name__} was due")
    if not isinstance(found, kinds):
        raise Differs(f"{what}: {type(found).__name__}: {found}, where {kinds[0].__name__} was due")
    return found
