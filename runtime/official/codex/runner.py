"""Codex with JSONL output: one run of the program for each message, its thread resumed with the next."""

import json
from collections.abc import Iterable, Sequence

from portway.runtime.harness.failures import program_failed
from portway.runtime.harness.job import Job
from portway.runtime.harness.json_lines import JsonReader
from portway.runtime.harness.mcp import McpServer
from portway.runtime.harness.places import Link
from portway.runtime.harness.runner import MESSAGE_KEY, Harness, Reader, SessionGone, Start
from portway.runtime.harness.settings import Where, choice, text
from portway.runtime.sdk import (
    ReasoningDelta,
    RunContext,
    RunResult,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.results import RunError

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
KEY_VARIABLE = "PORTWAY_RUN_TOKEN"
BRIDGE_VARIABLE = "PORTWAY_BRIDGE_TOKEN"
# Hosted tools of the vendor: the gateway fetches nothing for anybody.
CONFIG = b"""# Written anew for each run.
web_search = "disabled"
check_for_update_on_startup = false

[analytics]
enabled = false

[history]
persistence = "none"

# Tools that only its vendor's servers know how to declare, or that nobody in a chat could use.
[features]
multi_agent = false
apps = false
goals = false
image_generation = false
plugins = false
remote_plugin = false
enable_request_compression = false
"""
_GONE = ("no rollout found", "thread not found", "No saved session", "not found for thread", "session not found")
_TOOL_TEXT = 16_000


class Codex(Harness):
    def default_command(self, ctx: RunContext) -> Sequence[str]:
        return ("codex",)

    def reader(self, job: Job) -> Reader:
        return CodexReader(job.session_id)

    def start_of(self, job: Job) -> Start:
        folders, config = job.place.folders, job.ctx.config
        home = f"{folders.home}/.codex"
        assert job.models is not None, "this harness asks for them"
        # In a session the session is the sandbox, and one within it cannot be made.
        boxed = job.settings.where is Where.BOX
        sandbox = choice(config, "sandbox", SANDBOXES, "danger-full-access" if boxed else "read-only")
        values = {
            "model_provider": "portway",
            "model_providers.portway.name": "portway",
            "model_providers.portway.base_url": job.models.openai,
            "model_providers.portway.wire_api": "responses",
            "model_providers.portway.env_key": KEY_VARIABLE,
            "sandbox_mode": sandbox,
            "approval_policy": "never",
            "developer_instructions": f"{text(config, 'instructions')}\n\n{job.told}".strip(),
        }
        # The program's own default would have it speak in ways that only its vendor's servers know.
        primary = next((one.model_id for one in job.ctx.resources.models), "")
        if model := text(config, "model", primary):
            values["model"] = model
        arguments = ["exec", "--json", "--skip-git-repo-check"]
        for name, value in values.items():
            arguments += ["-c", f"{name}={json.dumps(value)}"]
        for server in job.servers:
            arguments += _mcp(server, job.settings.timeout)
        arguments += ["resume", job.session_id, "-"] if job.session_id else ["-"]
        files: dict[str, bytes | Link | None] = {f"{home}/config.toml": CONFIG}
        files |= {f"{home}/skills/{name}": Link(path) for name, path in job.place.skills}
        environment = {"CODEX_HOME": home, KEY_VARIABLE: job.run_token}
        for server in job.servers:
            environment[BRIDGE_VARIABLE] = server.headers.get("Authorization", "").removeprefix("Bearer ")
        return Start(arguments, environment, files, job.prompt.encode())


def _mcp(server: McpServer, seconds: float) -> list[str]:
    """JSON of texts, numbers and lists is TOML as well. Everybody can read arguments, so the token is not in them."""
    if server.url:
        values: dict[str, object] = {"url": server.url, "bearer_token_env_var": BRIDGE_VARIABLE}
    else:
        program, *rest = server.command
        values = {"command": program, "args": rest}
    # A call may wait for a person as long as the program may.
    values["tool_timeout_sec"] = seconds
    words = []
    for name, one in values.items():
        words += ["-c", f"mcp_servers.{server.name}.{name}={json.dumps(one)}"]
    return words


class CodexReader(JsonReader):
    """thread.started, items (agent_message, reasoning, command_execution, mcp_tool_call, …), turn.completed."""

    program = "codex"

    def __init__(self, resumed: str) -> None:
        super().__init__()
        self._resumed = resumed
        self._turn_done = False
        self._failed = ""
        self._begun: set[str] = set()

    def take_object(self, line: Json) -> Iterable[RunResult]:
        match line.get("type"):
            case "thread.started":
                self.session_id = str(line["thread_id"])
            case "turn.completed":
                self._turn_done = self.over = True
            case "turn.failed":
                self._failed = str((line.get("error") or {}).get("message", "")) or "the turn failed"
            case "error":
                # Tries of a request that failed are told so too; the turn's own end decides.
                self._failed = self._failed or str(line.get("message", ""))
            case "item.started":
                yield from self._started(line["item"])
            case "item.completed":
                yield from self._completed(line["item"])
            case "turn.started" | "item.updated":
                pass
            case other:
                self.unknown(other)

    def _started(self, item: Json) -> Iterable[RunResult]:
        call_id, name, arguments = _call(item)
        if name:
            self._begun.add(call_id)
            yield ToolCallStarted(call_id, name, arguments)

    def _completed(self, item: Json) -> Iterable[RunResult]:
        match item.get("type"):
            case "agent_message":
                gap = "\n\n" if self.said else ""
                said = f"{gap}{item['text']}"
                self.said += said
                yield TextDelta(said, MESSAGE_KEY)
            case "reasoning":
                yield ReasoningDelta(str(item.get("text", "")), MESSAGE_KEY)
            case _:
                yield from self._call_done(item)

    def _call_done(self, item: Json) -> Iterable[RunResult]:
        call_id, name, arguments = _call(item)
        if not name:
            return
        if call_id not in self._begun:
            yield ToolCallStarted(call_id, name, arguments)
        self._begun.discard(call_id)
        told = _outcome(item)[:_TOOL_TEXT]
        error = RunError("tool.error", told[:500]) if item.get("status") in ("failed", "declined") else None
        yield ToolCallCompleted(call_id, name, told, error)

    def ended(self, errors: str) -> None:
        if self._resumed and not self.said and any(one.lower() in (errors + self._failed).lower() for one in _GONE):
            raise SessionGone
        if not self._turn_done and self._failed:
            raise program_failed("codex", self._failed)

    def complete(self) -> bool:
        return bool(self.session_id) and self._turn_done


def _call(item: Json) -> tuple[str, str, Json]:
    """Id, name and arguments of an item that is a tool's work; the name is empty for others."""
    call_id = str(item.get("id", ""))
    match item.get("type"):
        case "command_execution":
            return call_id, "shell", {"command": str(item.get("command", ""))}
        case "mcp_tool_call":
            arguments = item.get("arguments")
            name = f"{item.get('server', 'mcp')}.{item.get('tool', '')}"
            return call_id, name, arguments if isinstance(arguments, dict) else {}
        case "file_change":
            return call_id, "apply_patch", {"changes": item.get("changes") or []}
        case _:
            return call_id, "", {}


def _outcome(item: Json) -> str:
    if item.get("type") == "command_execution":
        return f"exit code {item.get('exit_code')}\n{item.get('aggregated_output', '')}"
    if item.get("type") == "mcp_tool_call":
        return json.dumps(item.get("result") or item.get("error") or {}, ensure_ascii=False)
    return str(item.get("status", ""))
