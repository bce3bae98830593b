"""Claude Code in print mode: one run of the program for each message, its session resumed with the next."""

from collections.abc import Iterable, Sequence

from portway.runtime.harness.failures import PROGRAM_ERROR, program_failed
from portway.runtime.harness.job import Job
from portway.runtime.harness.json_lines import JsonReader, text_of
from portway.runtime.harness.mcp import mcp_document
from portway.runtime.harness.places import Files, Link
from portway.runtime.harness.runner import MESSAGE_KEY, Harness, Reader, SessionGone, Start
from portway.runtime.harness.settings import choice, text, whole, words
from portway.runtime.sdk import (
    FinishReason,
    ReasoningDelta,
    RunContext,
    RunFailure,
    RunResult,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.results import RunError

PERMISSION_MODES = ("plan", "default", "acceptEdits", "dontAsk", "bypassPermissions")
_GONE = "No conversation found"
_TOOL_TEXT = 16_000


class ClaudeCode(Harness):
    def default_command(self, ctx: RunContext) -> Sequence[str]:
        return ("claude",)

    def reader(self, job: Job) -> Reader:
        return ClaudeReader(job.session_id)

    def start_of(self, job: Job) -> Start:
        config, folders = job.ctx.config, job.place.folders
        mcp = f"{folders.run}/mcp.json"
        arguments = ["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
        arguments += ["--max-turns", str(whole(config, "max_turns", 1, 1000))]
        arguments += ["--permission-mode", choice(config, "permission_mode", PERMISSION_MODES)]
        arguments += ["--setting-sources", "project", "--strict-mcp-config", "--mcp-config", mcp]
        arguments += ["--disallowedTools", ",".join(("AskUserQuestion", *words(config, "disallowed_tools")))]
        allowed = [*words(config, "allowed_tools"), *(f"mcp__{one.name}" for one in job.servers)]
        if allowed:
            arguments += ["--allowedTools", ",".join(allowed)]
        if model := text(config, "model"):
            arguments += ["--model", model]
        arguments += ["--append-system-prompt", f"{text(config, 'instructions')}\n\n{job.told}".strip()]
        # What the session links and projects lies outside of its working directory.
        arguments += ["--add-dir", folders.run]
        if job.session_id:
            arguments += ["--resume", job.session_id]
        assert job.models is not None, "this harness asks for them"
        environment = {
            "ANTHROPIC_BASE_URL": job.models.anthropic,
            "ANTHROPIC_API_KEY": job.run_token,
            "CLAUDE_CONFIG_DIR": f"{folders.home}/.claude",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
        }
        files: dict[str, bytes | Link | None] = {mcp: mcp_document(job.servers), **_skills(job)}
        return Start(arguments, environment, files, job.prompt.encode())


def _skills(job: Job) -> Files:
    """A project of its own beside the run, which `--add-dir` makes known: the working directory stays as it is."""
    folder = f"{job.place.folders.run}/.claude/skills"
    return {f"{folder}/{name}": Link(path) for name, path in job.place.skills}


class ClaudeReader(JsonReader):
    """`stream-json`: system, stream_event (pieces of text), assistant and user (whole turns), result, once and last."""

    program = "claude"

    def __init__(self, resumed: str) -> None:
        super().__init__()
        self._resumed = resumed
        self._result: Json | None = None
        self._turn = ""
        self._tools: dict[str, str] = {}

    def take_object(self, line: Json) -> Iterable[RunResult]:
        if isinstance(line.get("session_id"), str):
            self.session_id = line["session_id"]
        if line.get("parent_tool_use_id"):
            # What an agent within the agent says is part of a tool's work.
            return
        match line.get("type"):
            case "stream_event":
                yield from self._piece(line.get("event") or {})
            case "assistant":
                yield from self._turn_said(_blocks(line))
            case "user":
                yield from self._tools_done(_blocks(line))
            case "result":
                self._result, self.over = line, True
            case "system":
                pass
            case other:
                self.unknown(other)

    def _piece(self, event: Json) -> Iterable[RunResult]:
        delta = event.get("delta") or {}
        if delta.get("type") == "text_delta":
            yield from self._say(str(delta.get("text", "")))
        elif delta.get("type") == "thinking_delta":
            yield ReasoningDelta(str(delta.get("thinking", "")), MESSAGE_KEY)

    def _say(self, said: str) -> Iterable[RunResult]:
        if said:
            gap = "\n\n" if self.said and not self._turn else ""
            self._turn += said
            self.said += gap + said
            yield TextDelta(gap + said, MESSAGE_KEY)

    def _turn_said(self, blocks: Sequence[Json]) -> Iterable[RunResult]:
        for block in blocks:
            match block.get("type"):
                case "text":
                    whole = str(block.get("text", ""))
                    # Pieces of it came before, unless the program does not stream.
                    if whole not in self._turn:
                        yield from self._say(whole)
                    self._turn = ""
                case "tool_use":
                    call_id, name = str(block.get("id", "")), str(block.get("name", ""))
                    self._tools[call_id] = name
                    arguments = block.get("input")
                    yield ToolCallStarted(call_id, name, arguments if isinstance(arguments, dict) else {})

    def _tools_done(self, blocks: Sequence[Json]) -> Iterable[RunResult]:
        for block in blocks:
            call_id = str(block.get("tool_use_id", ""))
            if block.get("type") == "tool_result" and call_id in self._tools:
                told = text_of(block.get("content"))[:_TOOL_TEXT]
                error = RunError("tool.error", told[:500]) if block.get("is_error") else None
                yield ToolCallCompleted(call_id, self._tools.pop(call_id), told, error)

    def ended(self, errors: str) -> None:
        result = self._result
        if self._resumed and not self.said and (_GONE in errors or _GONE in str(result)):
            raise SessionGone
        if result is None:
            return
        if result.get("subtype") == "error_max_turns":
            # The answer so far stands: the operator chose how many turns there are.
            self.finish = FinishReason.TOOL_LIMIT
            self.limited = True
            if not self.said.strip():
                raise RunFailure(PROGRAM_ERROR, "claude used all its turns (max_turns) before it said anything")
        elif result.get("is_error"):
            raise program_failed("claude", text_of(result.get("result")) or str(result))
        elif not self.said.strip():
            self.said = text_of(result.get("result"))

    def complete(self) -> bool:
        return self._result is not None


def _blocks(line: Json) -> Sequence[Json]:
    content = (line.get("message") or {}).get("content")
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else ()
