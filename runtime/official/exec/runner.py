"""One command for each message: a template of arguments, no shell, and its output is the answer."""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence

from portway.runtime.harness.attached import FOLDER as FILES
from portway.runtime.harness.failures import BAD_OUTPUT
from portway.runtime.harness.job import Job
from portway.runtime.harness.mcp import mcp_document
from portway.runtime.harness.runner import MESSAGE_KEY, Harness, Reader, Start
from portway.runtime.harness.settings import choice, flag, text, words, wrong
from portway.runtime.sdk import RunContext, RunFailure, RunResult, TextDelta

PERSONA = (
    "You are a helpful assistant that answers messages of a chat. Answer in the language of the message, briefly and "
    "in plain words. Do not speak of files, tools or settings unless you are asked about them."
)
FAST_MODEL = "claude-haiku-4-5"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# One result has at most 1 MiB.
MAX_ANSWER = 768 * 1024


class Exec(Harness):
    """Its session ends with each message: nothing is resumed."""

    def default_command(self, ctx: RunContext) -> Sequence[str]:
        if choice(ctx.config, "preset", ("none", "claude")) == "claude":
            return claude_command(text(ctx.config, "model", FAST_MODEL), text(ctx.config, "persona", PERSONA))
        if not words(ctx.config, "command"):
            raise wrong("command", "names no program: list it with its arguments, or choose a preset")
        return ()

    def wants_models(self, ctx: RunContext) -> bool:
        return flag(ctx.config, "models", True)

    def argv_of(self, job: Job, start: Start) -> Sequence[str]:
        """Placeholders are replaced within an argument, once: what a message says stays one argument, as it is."""
        values = _values(job)
        return [
            _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), one)
            for one in (*job.settings.command, *job.settings.arguments)
        ]

    def reader(self, job: Job) -> Reader:
        return TextReader()

    def start_of(self, job: Job) -> Start:
        by_argument = any("{text}" in one for one in (*job.settings.command, *job.settings.arguments))
        given = choice(job.ctx.config, "input", ("stdin", "argument"), "argument" if by_argument else "stdin")
        if given == "argument" and not by_argument:
            raise wrong("input", "is `argument`, but no argument has the placeholder {text}")
        stdin = job.prompt.encode() if given == "stdin" else b""
        file = f"{job.place.folders.run}/mcp.json"
        environment = {"AGENT_MCP_CONFIG": file}
        if job.models is not None:
            environment |= {
                "OPENAI_BASE_URL": job.models.openai,
                "OPENAI_API_KEY": job.run_token,
                "ANTHROPIC_BASE_URL": job.models.anthropic,
                "ANTHROPIC_API_KEY": job.run_token,
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
            }
        return Start((), environment, {file: mcp_document(job.servers)}, stdin)


def claude_command(model: str, persona: str) -> Sequence[str]:
    """Settings of the project only, no MCP server but those of the run, and a persona that knows nothing else."""
    return (
        *(
            "claude",
            "-p",
            "--setting-sources",
            "project",
            "--strict-mcp-config",
            "--mcp-config",
            "{run_folder}/mcp.json",
        ),
        *("--system-prompt", persona, "--model", model, "--max-turns", "1"),
        *("--permission-mode", "plan", "--disallowedTools", "AskUserQuestion"),
    )


def _values(job: Job) -> Mapping[str, str]:
    ctx, folders = job.ctx, job.place.folders
    return {
        "text": job.prompt,
        "run_id": ctx.run_id,
        "conversation_id": ctx.conversation.conversation_id,
        "actor_id": ctx.actor.id,
        "actor_name": ctx.actor.name,
        "run_folder": folders.run,
        "context_file": f"{folders.run}/agent-context.json",
        "summary_file": f"{folders.run}/agent-context.md",
        "files_folder": f"{folders.run}/{FILES}",
        "outbox": job.outbox,
    }


class TextReader(Reader):
    """All of the output is the answer, as UTF-8; what is none is replaced. It is streamed as it comes."""

    by_lines = False

    def __init__(self) -> None:
        super().__init__()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._size = 0

    def take(self, data: bytes) -> Iterable[RunResult]:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            raise RunFailure(BAD_OUTPUT, f"the command wrote more than {MAX_ANSWER >> 10} KiB, which is no answer")
        said = self._decoder.decode(data).replace("\0", "\N{REPLACEMENT CHARACTER}")
        if said:
            self.said += said
            yield TextDelta(said, MESSAGE_KEY)
