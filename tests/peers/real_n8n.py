"""Runs a real n8n: its own folder, SQLite, loopback, nothing that calls home. Workflows come in by its own API."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.npm import N8N, PeerMissing, installed_peers

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_INSTALL_SECONDS = 900.0
_OWNER = {"email": "owner@example.com", "firstName": "O", "lastName": "W", "password": f"P{uuid.uuid4().hex}1"}
_QUIET = (
    "N8N_DIAGNOSTICS_ENABLED",
    "N8N_VERSION_NOTIFICATIONS_ENABLED",
    "N8N_TEMPLATES_ENABLED",
    "N8N_PERSONALIZATION_ENABLED",
    "N8N_HIRING_BANNER_ENABLED",
    "N8N_DYNAMIC_BANNERS_ENABLED",
    "N8N_COMMUNITY_PACKAGES_ENABLED",
    "N8N_LICENSE_AUTO_RENEW_ENABLED",
    "N8N_SECURE_COOKIE",
)


@dataclass(frozen=True, slots=True)
class RealN8n:
    """A running n8n. `webhook(path)` is where a published workflow listens."""

    base_url: str
    _client: httpx.AsyncClient

    def webhook(self, path: str) -> str:
        return f"{self.base_url}/webhook/{path}"

    async def credential(self, kind: str, **data: str) -> dict[str, Any]:
        """Keeps a credential, and says how a node refers to it."""
        made = await self._post("/rest/credentials", {"name": kind, "type": kind, "data": data})
        return {kind: {"id": made["id"], "name": kind}}

    async def publish(self, name: str, *nodes: dict[str, Any]) -> None:
        """A workflow whose nodes follow each other, made and activated."""
        connections = {
            first["name"]: {"main": [[{"node": second["name"], "type": "main", "index": 0}]]}
            for first, second in zip(nodes, nodes[1:], strict=False)
        }
        workflow = {"name": name, "nodes": list(nodes), "connections": connections, "active": False}
        made = await self._post("/rest/workflows", workflow | {"settings": {"executionOrder": "v1"}})
        await self._post(f"/rest/workflows/{made['id']}/activate", {"versionId": made["versionId"]})

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(self.base_url + path, json=body)
        assert answer.is_success, (path, answer.status_code, answer.text[:2000])
        made: dict[str, Any] = answer.json()["data"]
        return made


def node(name: str, kind: str, version: float, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    where = {"id": str(uuid.uuid4()), "position": [0, 0]}
    return {"name": name, "type": kind, "typeVersion": version, "parameters": parameters, **where, **more}


@asynccontextmanager
async def start_n8n(folder: Path) -> AsyncIterator[RealN8n]:
    """Until the block ends. Raises `PeerMissing` where it cannot be installed or started here."""
    place = await asyncio.to_thread(installed_peers, N8N, built=("sqlite3",), seconds=_INSTALL_SECONDS)
    port, broker_port = _free_ports(2)
    log = folder / "n8n.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(place / "node_modules" / ".bin" / "n8n"),
            "start",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(folder, port, broker_port),
            start_new_session=True,
        )
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers={"browser-id": "tests"}) as client:
            base_url = f"http://127.0.0.1:{port}"
            await _set_up(client, base_url, process, log)
            yield RealN8n(base_url, client)
    finally:
        await _stopped(process)


async def _set_up(client: httpx.AsyncClient, base_url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Waits until it takes its owner, which it does once all of it is there."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                with suppress(httpx.TransportError):
                    answer = await client.post(f"{base_url}/rest/owner/setup", json=_OWNER)
                    # While it starts it answers everything with a line of text.
                    if answer.is_success and answer.headers.get("content-type", "").startswith("application/json"):
                        return
                await asyncio.sleep(0.2)
    except TimeoutError:
        pass
    said = (await asyncio.to_thread(log.read_text, errors="replace"))[-3000:]
    raise PeerMissing(f"n8n did not start within {_START_SECONDS:g} s; it said:\n{said}")


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    # Its runner of code is a process of the same group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _environment(folder: Path, port: int, broker_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "N8N_USER_FOLDER": str(folder),
        "DB_TYPE": "sqlite",
        "N8N_HOST": "127.0.0.1",
        "N8N_LISTEN_ADDRESS": "127.0.0.1",
        "N8N_PORT": str(port),
        "N8N_RUNNERS_BROKER_PORT": str(broker_port),
        "N8N_ENCRYPTION_KEY": uuid.uuid4().hex,
        **dict.fromkeys(_QUIET, "false"),
    }


def _free_ports(count: int) -> list[int]:
    """n8n takes no port 0, and says of none which one it took."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports
