"""The native tools: what a model may do in its sandbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

from portway.rpc.errors import (
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    OutOfRange,
    PortwayError,
    Reason,
    WrongState,
)
from portway.server.tools import native_exec, native_files
from portway.server.tools.arguments import Arguments
from portway.server.tools.box import BoxTools
from portway.server.tools.native_specs import SPECS
from portway.server.tools.types import (
    Availability,
    BoxSession,
    ToolCall,
    ToolEvent,
    ToolResult,
    ToolScope,
    ToolSpec,
)

SOURCE_ID = "native"

_FILE_TOOLS: Mapping[str, Callable[[Arguments], native_files.Operation]] = {
    "read": native_files.read,
    "write": native_files.write,
    "edit": native_files.edit,
    "glob": native_files.glob,
    "grep": native_files.grep,
}

# What the box refuses because of what the model asked for: the model sees it and can mend it. Everything else is a
# failure of the call; for a command it may even mean that it ran.
_REFUSED_COMMAND = (InvalidInput, NotPermitted)
_REFUSED_FILE = (*_REFUSED_COMMAND, NotFound, OutOfRange, LimitExceeded, WrongState)


class NativeTools:
    """The source of the native tools. `availability` tells how the box is now."""

    source_id = SOURCE_ID

    def __init__(self, box: BoxTools, availability: Callable[[], Availability]) -> None:
        self._box = box
        self._availability = availability

    def specs(self) -> tuple[ToolSpec, ...]:
        return SPECS

    def availability(self) -> Availability:
        return self._availability()

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        session = _session(scope, call)
        arguments = Arguments(call.name, call.arguments)
        if call.name == "exec":
            command = native_exec.command_of(arguments, call)
            running = self._box.run(session, command, call.effect_id)
            yield await _answered(native_exec.result_of(running), _REFUSED_COMMAND)
        else:
            operation = _FILE_TOOLS[call.name](arguments)
            yield await _answered(operation(self._box, session), _REFUSED_FILE)

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        if call.name != "exec":
            raise WrongState(
                f"whether the call of {call.name!r} happened cannot be found out; look at the file before trying again",
                reason=Reason.EFFECT_UNKNOWN,
            )
        command = native_exec.command_of(Arguments(call.name, call.arguments), call)
        return await native_exec.result_of(self._box.find_run(_session(scope, call), command, call.effect_id))


def _session(scope: ToolScope, call: ToolCall) -> BoxSession:
    if scope.session is None:
        raise WrongState(
            f"the tool {call.name!r} works in the box, and this agent has no box; offer native tools in its box policy",
            reason=Reason.TOOL_UNAVAILABLE,
        )
    return scope.session


async def _answered(working: Coroutine[Any, Any, ToolResult], refusals: tuple[type[PortwayError], ...]) -> ToolResult:
    try:
        return await working
    except refusals as error:
        if error.reason == Reason.TOOL_UNAVAILABLE:
            raise
        return ToolResult(error.message, {"reason": str(error.reason)}, is_error=True)
