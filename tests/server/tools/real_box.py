"""A real box in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.tokens import mint_token
from tests.postgres import free_port

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0


@dataclass
class RealBox:
    """Where the box is, and how to kill and start it again on the same data."""

    folder: Path
    token: str
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    mount_roots: Sequence[Path] = ()
    operator_token: str = ""

    def start(self) -> None:
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        settings = self.folder / "box.yaml"
        settings.write_text(json.dumps({"box": {"mount_roots": [str(root) for root in self.mount_roots]}}))
        with (self.folder / "box.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "portway.box", "--listen", self.address or f"127.0.0.1:{free_port()}"),
                    *("--data", self.folder / "data", "--credentials", self.folder / "credentials.json"),
                    *("--ready-file", ready, "--config", settings),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.address = json.loads(ready.read_text())["address"]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(_STOP_SECONDS)

    def log(self) -> str:
        return (self.folder / "box.log").read_text(errors="replace")[-4000:]


@contextmanager
def running_box(folder: Path, mount_roots: Sequence[Path] = ()) -> Iterator[RealBox]:
    """Serves every workspace to one service token."""
    token = mint_token("service")
    entry = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": "box", "workspace_id": "*"}
    file = os.open(folder / "credentials.json", os.O_CREAT | os.O_WRONLY, 0o600)
    with open(file, "w") as credentials:
        operator = mint_token("operator")
        other = {"id": operator.token_id, "sha256": operator.secret_hash.hex(), "role": "operator", "workspace_id": "*"}
        json.dump({"tokens": [entry, other]}, credentials)
    box = RealBox(folder, token.text, mount_roots=mount_roots, operator_token=operator.text)
    box.start()
    try:
        yield box
    finally:
        box.stop()
