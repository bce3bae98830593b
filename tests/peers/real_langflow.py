"""Runs a real Langflow: an environment and a folder of its own, SQLite, loopback, nothing that calls home."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.npm import PeerMissing

LOCK = Path(__file__).parent / "langflow.lock"
_INSTALL_SECONDS = 180
_START_SECONDS = 180.0
_STOP_SECONDS = 20.0
_USER, _PASSWORD = "owner", "Password-of-the-tests-1"
# Requests to the world end here, at once.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class RealLangflow:
    """A running Langflow. `api_key` may run its flows."""

    base_url: str
    api_key: str
    _client: httpx.AsyncClient

    async def publish(self, name: str) -> str:
        """A flow whose input is its output. Returns its id."""
        known = (await self._client.get(f"{self.base_url}/api/v1/all")).json()
        parts = next(group for group in known.values() if "ChatInput" in group)
        flow = {"name": name, "endpoint_name": name, "data": _echo(parts["ChatInput"], parts["ChatOutput"])}
        made = await self._client.post(f"{self.base_url}/api/v1/flows/", json=flow)
        assert made.status_code == 201, made.text
        flow_id: str = made.json()["id"]
        return flow_id


def _echo(given: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    field = said["template"]["input_value"]
    source = {"dataType": "ChatInput", "id": "ChatInput-1", "name": "message", "output_types": ["Message"]}
    target = {
        "fieldName": "input_value",
        "id": "ChatOutput-1",
        "inputTypes": field.get("input_types", ["Message"]),
        "type": field.get("type", "str"),
    }
    edge = {"id": "edge", "source": "ChatInput-1", "target": "ChatOutput-1"}
    edge |= {"sourceHandle": _handle(source), "targetHandle": _handle(target)}
    nodes = [_node("ChatInput", given), _node("ChatOutput", said)]
    edges = [edge | {"data": {"sourceHandle": source, "targetHandle": target}}]
    return {"nodes": nodes, "edges": edges, "viewport": {"x": 0, "y": 0, "zoom": 1}}


def _node(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    named = f"{kind}-1"
    inner = {"id": named, "type": kind, "node": part}
    return {"id": named, "type": "genericNode", "position": {"x": 0, "y": 0}, "data": inner}


def _handle(value: dict[str, Any]) -> str:
    """Langflow writes the quotes of this JSON as œ."""
    return json.dumps(value, separators=(",", ":")).replace('"', "œ")


@asynccontextmanager
async def start_langflow(folder: Path) -> AsyncIterator[RealLangflow]:
    """Until the block ends. Raises `PeerMissing` where it cannot be installed or started here."""
    place = await asyncio.to_thread(_installed)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = folder / "langflow.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(str(place / "bin" / "langflow"), "run", "--backend-only"),
            *("--host", "127.0.0.1", "--port", str(port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(folder),
            cwd=folder,
            start_new_session=True,
        )
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            base_url = f"http://127.0.0.1:{port}"
            await _ready(client, base_url, process, log)
            yield RealLangflow(base_url, await _api_key(client, base_url), client)
    finally:
        if process.returncode is None:
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        # Its workers are processes of the same group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _ready(client: httpx.AsyncClient, base_url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                with suppress(httpx.TransportError):
                    if (await client.get(f"{base_url}/health_check")).is_success:
                        return
                await asyncio.sleep(0.5)
    except TimeoutError:
        pass
    said = (await asyncio.to_thread(log.read_text, errors="replace"))[-3000:]
    raise PeerMissing(f"Langflow did not start within {_START_SECONDS:g} s; it said:\n{said}")


async def _api_key(client: httpx.AsyncClient, base_url: str) -> str:
    entered = await client.post(f"{base_url}/api/v1/login", data={"username": _USER, "password": _PASSWORD})
    assert entered.is_success, entered.text
    client.headers["authorization"] = f"Bearer {entered.json()['access_token']}"
    made = await client.post(f"{base_url}/api/v1/api_key/", json={"name": "tests"})
    assert made.is_success, made.text
    key: str = made.json()["api_key"]
    return key


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "DO_NOT_TRACK": "true",
        "LANGFLOW_DO_NOT_TRACK": "true",
        "LANGFLOW_CONFIG_DIR": str(folder),
        "LANGFLOW_SAVE_DB_IN_CONFIG_DIR": "true",
        "LANGFLOW_AUTO_LOGIN": "false",
        "LANGFLOW_SUPERUSER": _USER,
        "LANGFLOW_SUPERUSER_PASSWORD": _PASSWORD,
        "LANGFLOW_STORE": "false",
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _installed() -> Path:
    """An environment with the packages of the lock file, made once for each lock file and version of Python."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portway-test-environments"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / digest
    with (cache / f"{digest}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = str(Path(sys.executable).with_name("uv"))
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(LOCK)])
            (folder / "complete").touch()
    return folder


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except (subprocess.TimeoutExpired, FileNotFoundError) as error:
        raise PeerMissing(f"{' '.join(command)}: {type(error).__name__}") from None
    if done.returncode != 0:
        raise PeerMissing(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
