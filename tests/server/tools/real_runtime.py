"""A real plugin runtime in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.channel import open_channel
from portway.rpc.status import errors_by_meaning
from portway.rpc.tokens import mint_token
from portway.v1 import runtime_pb2, runtime_pb2_grpc
from tests.postgres import free_port

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0


@dataclass
class RealRuntime:
    """Where it is, and how to kill and start it again."""

    folder: Path
    plugins: Path
    token: str
    process: subprocess.Popen[bytes] | None = None
    address: str = ""

    def start(self) -> None:
        ready = self.folder / "runtime-ready.json"
        ready.unlink(missing_ok=True)
        with (self.folder / "runtime.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "portway.runtime", "--listen", self.address or f"127.0.0.1:{free_port()}"),
                    *("--data", self.folder / "runtime", "--credentials", self.folder / "runtime-credentials.json"),
                    *("--plugins", self.plugins, "--ready-file", ready),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.address = json.loads(ready.read_text())["address"]

    async def reload(self) -> None:
        """Look through the plugin folders again."""
        async with open_channel(self.address, token=self.token) as channel:
            with errors_by_meaning():
                stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
                await stub.ReloadPlugins(runtime_pb2.ReloadPluginsRequest())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(_STOP_SECONDS)

    def log(self) -> str:
        return (self.folder / "runtime.log").read_text(errors="replace")[-4000:]


@contextmanager
def running_runtime(folder: Path, plugins: Path) -> Iterator[RealRuntime]:
    """Serves one service token."""
    token = mint_token("service")
    entry = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": "runtime", "workspace_id": "*"}
    file = os.open(folder / "runtime-credentials.json", os.O_CREAT | os.O_WRONLY, 0o600)
    with open(file, "w") as credentials:
        json.dump({"tokens": [entry]}, credentials)
    runtime = RealRuntime(folder, plugins, token.text)
    runtime.start()
    try:
        yield runtime
    finally:
        runtime.stop()
