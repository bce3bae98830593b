"""Starts the mock of the vendors' model APIs that the vendors' own SDKs are tested against.

The rule for a tool result stands before the rule for the user's message in a fixture file: the first match wins, and
the user's message is still there in the turn that carries the result.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.npm import HERE, PeerMissing, installed_peers

FIXTURES = HERE / "fixtures" / "models.json"
API_KEY = "aimock-test-key"

_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
_START_SECONDS = 120
_STOP_SECONDS = 30


@dataclass(frozen=True)
class Aimock:
    """A running mock: `base_url` serves Anthropic's format, `base_url + "/v1"` OpenAI's. It wants `api_key`."""

    base_url: str
    api_key: str

    async def requests(self) -> list[dict[str, Any]]:
        """What it was asked so far, oldest first."""
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {"authorization": f"Bearer {self.api_key}"}
            answer = await client.get(f"{self.base_url}/v1/_requests", headers=headers)
            answer.raise_for_status()
            journal: list[dict[str, Any]] = json.loads(answer.content)
            return journal


@asynccontextmanager
async def start_aimock(fixtures: Path = FIXTURES, *options: str) -> AsyncIterator[Aimock]:
    """Runs the mock on a free loopback port until the block ends. `options` are those of its command line."""
    folder = await asyncio.to_thread(installed_peers)
    program = folder / "node_modules" / ".bin" / "llmock"
    process = await asyncio.create_subprocess_exec(
        program,
        *(
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--fixtures",
            str(fixtures),
            "--validate-on-load",
            *options,
        ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "AIMOCK_API_KEYS": API_KEY},
    )
    lines: deque[str] = deque(maxlen=200)
    try:
        base_url = await _base_url(process, lines)
        # Read on, so that a full pipe never stops it.
        draining = asyncio.create_task(_drain(process, lines), name="output of the mock")
        try:
            yield Aimock(base_url, API_KEY)
        finally:
            draining.cancel()
            with suppress(asyncio.CancelledError):
                await draining
    finally:
        await _stop(process)


async def _base_url(process: asyncio.subprocess.Process, lines: deque[str]) -> str:
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            async for line in process.stdout:
                lines.append(line.decode(errors="replace"))
                found = _LISTENING.search(lines[-1])
                if found:
                    return found[1]
    raise PeerMissing("the model mock did not start; it said:\n" + "".join(lines))


async def _drain(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        lines.append(line.decode(errors="replace"))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
    await process.wait()
