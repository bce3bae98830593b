"""Runs a plugin once, in a runtime of its own, with a host that has what the command line says."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from portway.rpc.errors import PortwayError
from portway.runtime.kit.folder import Unusable, plugin_in
from portway.runtime.kit.host_end import Run
from portway.runtime.kit.quiet import quiet
from portway.runtime.kit.subject import Subject, live
from portway.runtime.plugins.types import PluginDefinition, RunnerDefinition
from portway.runtime.sdk.testing.things import Things, transcript
from portway.runtime.sdk.types.context import Permissions
from portway.v1 import run_result_pb2, runtime_pb2

_FAILED = 1
_LOG_LINES = 100


async def play(folder: Path, message: str, runner: str, history: Sequence[str], config: Sequence[str]) -> int:
    """Prints what the run says as it says it, and what the plugin printed. The exit code tells whether it completed."""
    plugin = plugin_in(folder)
    chosen = _runner(plugin, runner)
    values = dict(_value(one) for one in config)
    allowed = Permissions(frozenset(one.value.replace(".", "_") for one in chosen.permissions.granted))
    quiet()
    with tempfile.TemporaryDirectory(prefix="portway-kit-") as data:
        async with live(chosen.id, plugin.folder, Path(data)) as subject:
            things = Things(history=transcript(*history))
            code = _FAILED
            try:
                async with subject.host.run(message, things=things, config=values, permissions=allowed) as run:
                    code = await _show(run)
            except PortwayError as error:
                print(f"failed: {error.message}")
            await _show_log(subject)
            return code


def _runner(plugin: PluginDefinition, name: str) -> RunnerDefinition:
    names = [one.name for one in plugin.runners]
    wanted = name or ("default" if "default" in names else names[0] if len(names) == 1 else "")
    for one in plugin.runners:
        if one.name == wanted:
            return one
    if not names:
        raise Unusable(f"{plugin.id} has no runner; `portway plugin test` tries its tools")
    raise Unusable(f"{plugin.id} has no runner {name or 'default'!r}; name one with --runner: {', '.join(names)}")


def _value(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Unusable(f"--config {text!r}: write NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value


async def _show(run: Run) -> int:
    shown = 0
    going = True
    while going:
        going = await run.read()
        for result in run.results[shown:]:
            print(_told(result), flush=True)
        shown = len(run.results)
    if run.kinds[-1:] == ["run_completed"]:
        return 0
    if run.kinds[-1:] != ["run_failed"]:
        print("the run ended without saying whether it completed or failed")
    return _FAILED


def _told(result: run_result_pb2.RunResult) -> str:
    match result.WhichOneof("kind"):
        case "message_delta":
            return f"… {result.message_delta.text or result.message_delta.reasoning}"
        case "message_completed":
            parts = result.message_completed.message.parts
            return f"message: {''.join(part.text.text for part in parts)}"
        case "run_completed":
            return "completed"
        case "run_failed":
            error = result.run_failed.error
            return f"failed: {error.code}: {error.message}"
        case kind:
            return f"{kind}: {str(getattr(result, kind)).strip()}" if kind else "a result of a kind that is not known"


async def _show_log(subject: Subject) -> None:
    request = runtime_pb2.TailPluginLogsRequest(plugin_id=subject.plugin_id, lines=_LOG_LINES, once=True)
    async for line in subject.stub.TailPluginLogs(request):
        print(f"{line.stream}: {line.line}")
