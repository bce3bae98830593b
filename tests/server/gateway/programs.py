"""The vendors' own clients as programs of a run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import openai

from tests.fakes.runtime_server import FakeRun

TOOL = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
}
# The smallest PNG there is.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def url_of(run: FakeRun) -> str:
    return str(run.context.runtime.model_gateway_url)


@asynccontextmanager
async def openai_of(run: FakeRun, token: str = "") -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(
        base_url=url_of(run) + "/openai/v1", api_key=token or run.start.run_token, max_retries=0
    ) as client:
        yield client


@asynccontextmanager
async def anthropic_of(run: FakeRun, token: str = "") -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(
        base_url=url_of(run) + "/anthropic", api_key=token or run.start.run_token, max_retries=0
    ) as client:
        yield client


@asynccontextmanager
async def http_of(run: FakeRun, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {token or run.start.run_token}"}
    async with httpx.AsyncClient(base_url=url_of(run), headers=headers, timeout=20) as client:
        yield client
