"""`portway plugin test`: the conformance suite on the plugin of a folder, each behaviour with what came of it."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from portway.rpc.errors import PortwayError
from portway.runtime.kit.behaviours import GENERAL, WORDS, Behaviour
from portway.runtime.kit.folder import Unusable, plugin_in
from portway.runtime.kit.quiet import quiet
from portway.runtime.kit.subject import Differs, live

CONFORMANCE = "conformance"
# A behaviour that takes longer hangs.
PATIENCE = 60.0
_FAILED = 1


async def try_out(folder: Path) -> int:
    """Prints a line for each behaviour; the exit code tells whether all passed."""
    plugin = plugin_in(folder)
    if not plugin.runners:
        raise Unusable(f"{plugin.id} has no runner; the suite is for runners")
    quiet()
    failed = 0
    for runner in plugin.runners:
        print(runner.id)
        behaviours = [*GENERAL, *WORDS] if runner.name == CONFORMANCE else GENERAL
        failed += await _try_runner(plugin.folder, runner.id, behaviours)
    if CONFORMANCE not in {runner.name for runner in plugin.runners}:
        print(f"not tried: {len(WORDS)} behaviours that a runner named {CONFORMANCE} plays; see docs/plugins.md")
    print(f"{failed} failed" if failed else "all passed")
    return _FAILED if failed else 0


async def _try_runner(folder: Path, runner_id: str, behaviours: Sequence[Behaviour]) -> int:
    """Each behaviour in a runtime of its own, so that one that goes wrong spoils no other."""
    failed = 0
    for behaviour in behaviours:
        with tempfile.TemporaryDirectory(prefix="portway-kit-") as data:
            trouble = await _trouble(folder, runner_id, behaviour, Path(data))
        failed += trouble is not None
        print(f"  {'pass' if trouble is None else 'FAIL'}  {behaviour.name}", flush=True)
        if trouble is not None:
            print(f"        {trouble}", flush=True)
    return failed


async def _trouble(folder: Path, runner_id: str, behaviour: Behaviour, data: Path) -> str | None:
    """What is wrong; None if nothing."""
    try:
        async with live(runner_id, folder, data) as subject, asyncio.timeout(PATIENCE):
            await behaviour.check(subject)
    except TimeoutError:
        return f"it took more than {PATIENCE:.0f} s"
    except (Differs, PortwayError, AssertionError, ExceptionGroup) as error:
        return _told(error)
    return None


def _told(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(_told(one) for one in error.exceptions)
    return error.message if isinstance(error, PortwayError) else str(error)
