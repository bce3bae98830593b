"""Hands a message to a desktop session that a person has open, and waits for what is answered there."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from portway.runtime.harness.allowances import SESSION_BRIDGES
from portway.runtime.harness.failures import EMPTY_OUTPUT, LOST, NO_PLACE, PROGRAM_ERROR, TIMEOUT, excerpt
from portway.runtime.harness.job import check_prompt
from portway.runtime.harness.mcp import NAME, McpServer, mcp_document
from portway.runtime.harness.project import context_document
from portway.runtime.harness.runner import MESSAGE_KEY
from portway.runtime.harness.settings import MAX_SECONDS, number, text
from portway.runtime.sdk import (
    AgentRunner,
    HostApi,
    MessageCompleted,
    Progress,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
)

_MARGIN_SECONDS = 5.0
_MAX_ANSWER = 1024 * 1024


class SessionBridge(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        port, folder = _bridge(text(ctx.config, "bridge", "default"))
        seconds = number(ctx.config, "timeout_seconds", 600.0, MAX_SECONDS)
        check_prompt(ctx)
        message = {"id": ctx.run_id, "wait_seconds": seconds, "text": ctx.input.text, "context": context_document(ctx)}
        if ctx.runtime.bridge_url and host.bridge_token:
            # As the file that desktop programs read. It opens the run's bridge alone, until the run ends.
            server = McpServer(NAME, ctx.runtime.bridge_url, {"Authorization": f"Bearer {host.bridge_token}"})
            message["mcp"] = json.loads(mcp_document((server,)))
        yield Progress("waiting for the desktop session")
        said = await _handed_over(port, folder, message, seconds)
        if not said.strip():
            raise RunFailure(EMPTY_OUTPUT, "the desktop session answered with an empty file")
        yield MessageCompleted.of_text(said, message_key=MESSAGE_KEY)
        yield RunCompleted()


async def _handed_over(port: int, folder: Path, message: object, seconds: float) -> str:
    """The connection is the message's life: when the run ends, the queue takes it back."""
    try:
        token = (folder / "token").read_text(encoding="ascii").strip()
        async with httpx.AsyncClient(trust_env=False, timeout=seconds + _MARGIN_SECONDS) as client:
            answer = await client.post(
                f"http://127.0.0.1:{port}/messages", json=message, headers={"authorization": f"Bearer {token}"}
            )
    except httpx.TimeoutException as error:
        raise _late(seconds) from error
    except (OSError, httpx.HTTPError) as error:
        raise RunFailure(
            LOST, f"the session bridge at port {port} is not there ({excerpt(str(error))}); start it", retryable=True
        ) from error
    if answer.status_code == httpx.codes.GATEWAY_TIMEOUT:
        raise _late(seconds)
    if answer.status_code != httpx.codes.OK or len(answer.content) > _MAX_ANSWER:
        raise RunFailure(PROGRAM_ERROR, f"the session bridge refused: {answer.status_code} {excerpt(answer.text)}")
    try:
        return str(answer.json()["text"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailure(PROGRAM_ERROR, f"port {port} answers, and is no session bridge") from error


def _bridge(name: str) -> tuple[int, Path]:
    bridges = json.loads(os.environ.get(SESSION_BRIDGES) or "{}")
    if name not in bridges:
        raise RunFailure(
            NO_PLACE,
            f"the operator of this machine has no session bridge {name!r}: set runtime.session_bridges (port, folder)",
        )
    port, folder = bridges[name]
    return port, Path(folder)


def _late(seconds: float) -> RunFailure:
    return RunFailure(TIMEOUT, f"nobody answered in the desktop session within {seconds:g} s", retryable=True)
