"""Hands a message to a desktop session that a person has open, and waits for what is answered there."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from portway.runtime.harness.allowances import SESSION_BRIDGES
from portway.runtime.harness.failures import EMPTY_OUTPUT, NO_PLACE
from portway.runtime.harness.job import check_prompt
from portway.runtime.harness.mcp import NAME, McpServer, mcp_document
from portway.runtime.harness.project import context_document
from portway.runtime.harness.runner import MESSAGE_KEY
from portway.runtime.harness.settings import MAX_SECONDS, number, text
from portway.runtime.official.session_bridge.handing_over import Desk, handed_over
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


class SessionBridge(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        desk = _bridge(text(ctx.config, "bridge", "default"))
        seconds = number(ctx.config, "timeout_seconds", 600.0, MAX_SECONDS)
        check_prompt(ctx)
        message = {"id": ctx.run_id, "wait_seconds": seconds, "text": ctx.input.text, "context": context_document(ctx)}
        if ctx.runtime.bridge_url and host.bridge_token:
            # As the file that desktop programs read. It opens the run's bridge alone, until the run ends.
            server = McpServer(NAME, ctx.runtime.bridge_url, {"Authorization": f"Bearer {host.bridge_token}"})
            message["mcp"] = json.loads(mcp_document((server,)))
        yield Progress("waiting for the desktop session")
        said = await handed_over(desk, message, seconds)
        if not said.strip():
            raise RunFailure(EMPTY_OUTPUT, "the desktop session answered with an empty file")
        yield MessageCompleted.of_text(said, message_key=MESSAGE_KEY)
        yield RunCompleted()


def _bridge(name: str) -> Desk:
    bridges = json.loads(os.environ.get(SESSION_BRIDGES) or "{}")
    if name not in bridges:
        raise RunFailure(
            NO_PLACE,
            f"the operator of this machine has no session bridge {name!r}: set runtime.session_bridges (port, folder)",
        )
    port, folder = bridges[name]
    return Desk(port, Path(folder))
