"""The tool `exec`: a shell command in the sandbox, and how its result reads."""

from __future__ import annotations

from collections.abc import Awaitable

from portway.server.tools.arguments import Arguments
from portway.server.tools.box import Command, CommandResult, Ending
from portway.server.tools.types import ToolCall, ToolResult

DEFAULT_SECONDS = 30.0
_MAX_SECONDS = 3600.0
_HEAD_SHARE = 0.6


def command_of(arguments: Arguments, call: ToolCall) -> Command:
    """The command of a call; it ends within the call's own time."""
    line = arguments.text("command")
    directory = arguments.optional_text("working_directory")
    seconds = arguments.optional_number("timeout_seconds", 0.001, _MAX_SECONDS) or DEFAULT_SECONDS
    arguments.end()
    if call.timeout_seconds is not None:
        seconds = min(seconds, call.timeout_seconds)
    return Command(line, directory, seconds)


async def result_of(running: Awaitable[CommandResult]) -> ToolResult:
    """The tool's result of a command's."""
    return _result(await running)


def _result(done: CommandResult) -> ToolResult:
    parts = [_first_line(done)]
    if done.session_begun:
        parts.append("(The sandbox is a new one: files of earlier commands are gone.)")
    stdout = _shown(done.stdout, done.stdout_left_out)
    stderr = _shown(done.stderr, done.stderr_left_out)
    if stdout:
        parts.append(stdout)
    if stderr:
        parts += ["[stderr]", stderr]
    data: dict[str, object] = {
        "status": str(done.ending),
        "stdout": stdout,
        "stderr": stderr,
        "stdout_left_out_bytes": done.stdout_left_out,
        "stderr_left_out_bytes": done.stderr_left_out,
        "duration_seconds": done.seconds,
    }
    data |= {"exit_code": done.exit_code} if done.exit_code is not None else {}
    data |= {"signal": done.signal} if done.signal is not None else {}
    return ToolResult("\n".join(parts), data, done.ending is not Ending.COMPLETED, done.replayed)


def _first_line(done: CommandResult) -> str:
    match done.ending:
        case Ending.COMPLETED:
            return f"exit code {done.exit_code}"
        case Ending.TIMED_OUT:
            return f"killed after {done.seconds:.1f} s, because its time was over"
        case Ending.OUT_OF_MEMORY:
            return "killed because it used more memory than the sandbox has"
        case Ending.KILLED:
            return f"killed by signal {done.signal}" if done.signal is not None else "killed"


def _shown(output: bytes, left_out: int) -> str:
    """The output as text, with a line where its middle is missing."""
    if left_out <= 0:
        return output.decode(errors="replace").rstrip("\n")
    head = round(len(output) * _HEAD_SHARE)
    before, after = (part.decode(errors="replace") for part in (output[:head], output[head:]))
    return f"{before}\n[… {left_out} bytes left out …]\n{after}".rstrip("\n")
