"""MCP clients as programs of a run: the official library, and bare HTTP for what no client would say."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from portway.server.bridge.config import BridgeLimits
from tests.fakes.runtime_server import FakeRun

HEARTBEAT = BridgeLimits(heartbeat=0.05)
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def url_of(run: FakeRun) -> str:
    return str(run.context.runtime.bridge_url)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def mcp_of(run: FakeRun, **more: Any) -> AsyncIterator[ClientSession]:
    """The official client, connected and agreed on a version."""
    async with httpx2.AsyncClient(headers=bearer(run.start.bridge_token), timeout=30) as http:
        async with streamable_http_client(url_of(run), http_client=http) as (read, write):
            async with ClientSession(read, write, **more) as session:
                await session.initialize()
                yield session


@asynccontextmanager
async def http_of(run: FakeRun, token: str | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    given = run.start.bridge_token if token is None else token
    every = {**JSON, **(bearer(given) if given else {}), **headers}
    async with httpx.AsyncClient(headers=every, timeout=30, trust_env=False) as client:
        yield client


def a_request(method: str, request_id: object = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def initialize(version: str = "2025-06-18", request_id: object = 0) -> dict[str, Any]:
    about = {"name": "test", "version": "1"}
    return a_request("initialize", request_id, protocolVersion=version, capabilities={}, clientInfo=about)


def a_call(name: str, request_id: object = 1, /, **arguments: Any) -> dict[str, Any]:
    return a_request("tools/call", request_id, name=name, arguments=arguments)


async def session_of(http: httpx.AsyncClient, url: str, version: str = "2025-06-18") -> Mapping[str, str]:
    """Headers of a new session."""
    answer = await http.post(url, json=initialize(version))
    assert answer.status_code == 200, answer.text
    return {"mcp-session-id": answer.headers["mcp-session-id"]}


def events_of(body: str) -> list[dict[str, Any]]:
    """The messages of a stream of events."""
    return [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]


def message_of(answer: httpx.Response) -> dict[str, Any]:
    """The answer to a request, which comes whole or as the last event of a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return events_of(answer.text)[-1]
    found: dict[str, Any] = answer.json()
    return found
