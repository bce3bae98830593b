"""The published conformance suite of MCP, its scenarios for servers, against a run's bridge.

The suite knows no tokens, so a proxy in front shows the run's. Its tools are those of the run's agent, scripted here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portway.server.agents.types import ResourcePolicy
from portway.server.effects.types import Idempotency
from portway.server.tools.types import ToolCall, ToolEvent, ToolFile, ToolProgress, ToolResult, ToolSpec, ToolType
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.peers.npm import installed_peers
from tests.server.bridge.clients import url_of
from tests.server.bridge.scripted_tools import PIXEL, ScriptedTools
from tests.server.hosting import Hosted
from tests.server.playing import played

pytestmark = pytest.mark.heavy

NEWER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
SCENARIOS = [
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-error",
    "tools-call-with-progress",
    "json-schema-2020-12",
    "server-sse-multiple-streams",
    "resources-list",
    "dns-rebinding-protection",
]
# What the bridge does not have, and why it is none of them.
ABSENT = {
    "logging-set-level": "a run's log is the host's",
    "tools-call-with-logging": "as above",
    "completion-complete": "there is nothing to complete",
    "prompts-list": "prompts are the agent's own affair",
    "prompts-get-simple": "as above",
    "prompts-get-with-args": "as above",
    "prompts-get-embedded-resource": "as above",
    "prompts-get-with-image": "as above",
    "tools-call-sampling": "models are asked through the model gateway",
    "tools-call-elicitation": "people are asked by interactions and approvals",
    "elicitation-sep1034-defaults": "as above",
    "elicitation-sep1330-enums": "as above",
    "resources-subscribe": "what a run was given does not change",
    "resources-unsubscribe": "as above",
    "server-sse-polling": "a stream that was cut is not resumed: its call has ended",
    "tools-call-embedded-resource": "files are linked to, and read as resources",
    "tools-call-mixed-content": "as above",
    "resources-read-text": "its resources have addresses of their own, such as test://static-text",
    "resources-read-binary": "as above",
    "resources-templates-read": "as above",
}


async def _progress(call: ToolCall) -> AsyncIterator[ToolEvent]:
    for done in (0.0, 0.5, 1.0):
        yield ToolProgress("", done)
    yield ToolResult("done")


async def _text(call: ToolCall) -> AsyncIterator[ToolEvent]:
    yield ToolResult("This is a simple text response for testing.")


async def _image(call: ToolCall) -> AsyncIterator[ToolEvent]:
    yield ToolResult("", files=(ToolFile("dot.png", "image/png", PIXEL),))


async def _audio(call: ToolCall) -> AsyncIterator[ToolEvent]:
    yield ToolResult("", files=(ToolFile("sound.wav", "audio/wav", b"RIFF$\0\0\0WAVEfmt "),))


async def _error(call: ToolCall) -> AsyncIterator[ToolEvent]:
    yield ToolResult("This tool intentionally returns an error for testing", is_error=True)


WORKS = {
    "test_simple_text": _text,
    "test_image_content": _image,
    "test_audio_content": _audio,
    "test_error_handling": _error,
    "test_tool_with_progress": _progress,
    "json_schema_2020_12_tool": _text,
}


class SuiteTools(ScriptedTools):
    """Tools by the names that the suite calls."""

    def specs(self) -> tuple[ToolSpec, ...]:
        newer = "json_schema_2020_12_tool"
        return tuple(
            ToolSpec(name, ToolType.PLUGIN, name, NEWER if name == newer else {"type": "object"}, Idempotency.READ_ONLY)
            for name in WORKS
        )


@asynccontextmanager
async def with_token(url: str, token: str) -> AsyncIterator[str]:
    """A proxy that shows the token with each request."""
    target = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)

        async def forth() -> None:
            # One request a connection: the rest of it is its body.
            head = await reader.readuntil(b"\r\n")
            back.write(head + f"authorization: Bearer {token}\r\nconnection: close\r\n".encode())
            while data := await reader.read(65536):
                back.write(data.replace(b"onnection: keep-alive", b"-nothing: nothing"))
                await back.drain()

        asking = asyncio.ensure_future(forth())
        try:
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            writer.close()
            back.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{target.path}"


async def suite(url: str, scenario: str, folder: Path) -> tuple[int, str]:
    program = await asyncio.to_thread(installed_peers) / "node_modules" / ".bin" / "conformance"
    process = await asyncio.create_subprocess_exec(
        *(program, "server", "--url", url, "--scenario", scenario),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, said.decode()


async def test_the_bridge_conforms(host: Hosted, runtime: FakeRuntime, tmp_path: Path) -> None:
    tools = SuiteTools()
    tools.works = {f"{tools.source_id}/{name}": work for name, work in WORKS.items()}
    tools.works |= dict(WORKS)
    host.parts.tools.replace(tools)
    await host.set_agent(resource_policy=ResourcePolicy(tools=tuple(WORKS)))
    outcomes: dict[str, str] = {}

    async def script(run: FakeRun) -> None:
        async with with_token(url_of(run), run.start.bridge_token) as url:
            for scenario in SCENARIOS:
                code, said = await suite(url, scenario, tmp_path)
                # Of a suite that checked nothing the same could be said.
                well = code == 0 and "Passed: 0/" not in said and ", 0 failed, 0 warnings" in said
                outcomes[scenario] = "" if well else said[-3000:]

    await played(host, runtime, script)
    assert outcomes == dict.fromkeys(SCENARIOS, ""), json.dumps(outcomes, indent=2)


async def test_every_scenario_of_the_suite_is_played_or_has_a_reason() -> None:
    program = await asyncio.to_thread(installed_peers) / "node_modules" / ".bin" / "conformance"
    process = await asyncio.create_subprocess_exec(program, "list", "--server", stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    listed = {line.strip().removeprefix("- ") for line in said.decode().splitlines() if line.strip().startswith("- ")}
    assert listed == set(SCENARIOS) | set(ABSENT) and not set(SCENARIOS) & set(ABSENT)
