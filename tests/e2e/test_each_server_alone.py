"""Each server starts alone with its own command, serves, and ends well."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.tokens import mint_token
from portway.v1 import box_pb2, runtime_pb2, status_pb2
from tests.asking import ask
from tests.e2e.stack import clean_environment

SECONDS = 120


@asynccontextmanager
async def alone(folder: Path, *arguments: str) -> AsyncIterator[str]:
    """The server's address."""
    ready = folder / "ready.json"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway.clients.cli.main", *arguments),
            *("--data", str(folder / "data"), "--listen", "127.0.0.1:0", "--ready-file", str(ready)),
            stdout=log,
            stderr=log,
            env=clean_environment(),
        )
    try:
        async with asyncio.timeout(SECONDS):
            while not ready.exists():
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.02)
        yield str(json.loads(ready.read_text())["address"])
    finally:
        if process.returncode is None:
            process.terminate()
        code = await asyncio.wait_for(process.wait(), SECONDS)
    assert code == 0, (folder / "log").read_text()


async def test_the_host_serves_alone_and_says_what_it_lacks(tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    async with alone(tmp_path, "host", "--admin-token-file", str(token_file)) as address:
        async with open_channel(address, token=token_file.read_text().strip()) as channel:
            status = await ask(channel, status_pb2.GetStatusRequest())
    states = {part.name: part.state for part in status.parts}
    assert states["host"] == status_pb2.PART_STATE_OK
    assert states["box"] == status_pb2.PART_STATE_DISABLED


@pytest.mark.parametrize(
    ("name", "request_message"),
    [("runtime", runtime_pb2.GetRuntimeStatusRequest()), ("box", box_pb2.GetBoxStatusRequest())],
)
async def test_runtime_and_box_serve_alone(tmp_path: Path, name: str, request_message: Any) -> None:
    minted = mint_token("service")
    token = {"id": minted.token_id, "sha256": minted.secret_hash.hex(), "role": name, "workspace_id": "*"}
    accepted = tmp_path / "accepted.json"
    accepted.write_text(json.dumps({"tokens": [token]}))
    os.chmod(accepted, 0o600)
    async with alone(tmp_path, name, "--credentials", str(accepted)) as address:
        async with open_channel(address, token=minted.text) as channel:
            answer = await ask(channel, request_message)
    assert answer.ListFields()
