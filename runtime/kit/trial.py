"""`portway plugin test`: the conformance suite on the plugin of a folder, each behaviour with what came of it."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from portway.rpc.errors import PortwayError
from portway.runtime.kit.behaviours import GENERAL, WORDS
from portway.runtime.kit.components.end import ComponentEnd
from portway.runtime.kit.components.suites import CONFORMANCE, suite_of
from portway.runtime.kit.components.tools import WORDS as TOOL_WORDS
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried
from portway.runtime.kit.folder import plugin_in
from portway.runtime.kit.quiet import quiet
from portway.runtime.kit.subject import Differs, Subject, live
from portway.runtime.plugins.types import ComponentDefinition, kind_of

_Check = Callable[[Subject], Awaitable[None]]
# A behaviour that takes longer hangs.
PATIENCE = 60.0
_FAILED = 1


async def try_out(folder: Path) -> int:
    """Prints a line for each behaviour; the exit code tells whether all passed."""
    plugin = plugin_in(folder)
    quiet()
    failed = 0
    for runner in plugin.runners:
        print(runner.id)
        behaviours = [*GENERAL, *WORDS] if runner.name == CONFORMANCE else GENERAL
        failed += await _try(plugin.folder, runner.id, [(one.name, one.check) for one in behaviours])
    for component in (*plugin.tools, *plugin.others):
        print(f"{kind_of(component)} {component.id}")
        failed += await _try(plugin.folder, component.id, [_check(component, one) for one in suite_of(component)])
    if plugin.runners and CONFORMANCE not in {runner.name for runner in plugin.runners}:
        print(f"not tried: {len(WORDS)} behaviours that a runner named {CONFORMANCE} plays; see docs/plugins.md")
    if plugin.tools and CONFORMANCE not in {tool.name for tool in plugin.tools}:
        print(
            f"not tried: {len(TOOL_WORDS)} behaviours that a tool named {CONFORMANCE} plays; see docs/component-tool.md"
        )
    print(f"{failed} failed" if failed else "all passed")
    return _FAILED if failed else 0


def _check(component: ComponentDefinition, behaviour: ComponentBehaviour) -> tuple[str, _Check]:
    async def check(subject: Subject) -> None:
        end = ComponentEnd(subject.host.channel, kind_of(component), component.id)
        await behaviour.check(Tried(subject, end, component))

    return behaviour.name, check


async def _try(folder: Path, subject_id: str, checks: Sequence[tuple[str, _Check]]) -> int:
    """Each behaviour in a runtime of its own, so that one that goes wrong spoils no other."""
    failed = 0
    for name, check in checks:
        with tempfile.TemporaryDirectory(prefix="portway-kit-") as data:
            trouble = await _trouble(folder, subject_id, check, Path(data))
        failed += trouble is not None
        print(f"  {'pass' if trouble is None else 'FAIL'}  {name}", flush=True)
        if trouble is not None:
            print(f"        {trouble}", flush=True)
    return failed


async def _trouble(folder: Path, subject_id: str, check: _Check, data: Path) -> str | None:
    """What is wrong; None if nothing."""
    try:
        async with live(subject_id, folder, data) as subject, asyncio.timeout(PATIENCE):
            await check(subject)
    except TimeoutError:
        return f"it took more than {PATIENCE:.0f} s"
    except (Differs, PortwayError, AssertionError, ExceptionGroup) as error:
        return _told(error)
    return None


def _told(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(_told(one) for one in error.exceptions)
    return error.message if isinstance(error, PortwayError) else str(error)
