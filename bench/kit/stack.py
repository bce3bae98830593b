"""The installation that is measured: `portway up` as a person starts it, on free ports and an empty folder."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.kit import database
from bench.kit.machine import pin

START_SECONDS = 60
STOP_SECONDS = 60
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Stack:
    """A running installation. `start_seconds` is from the start of the command to its ready file."""

    host: str
    token: str
    pids: dict[str, int]
    start_seconds: float

    def pin(self, cores: frozenset[int]) -> None:
        """Keep every part, and the plugins that they start from now on, on these cores."""
        pin(self.pids["up"], cores)


@contextmanager
def installation(config: str = "", folder: Path | None = None) -> Iterator[Stack]:
    """Started, and stopped at the end. `folder` keeps its data between two starts; a temporary one if not given."""
    with (
        tempfile.TemporaryDirectory(prefix="portway-bench-", dir=os.environ.get("BENCH_FOLDER")) as temporary,
        database.settings() as database_settings,
    ):
        place = folder or Path(temporary)
        settings = place / "portway.yaml"
        settings.write_text(config, encoding="utf-8")
        ready_file, log = place / "ready.json", place / "up.log"
        command = [sys.executable, "-m", "portway.clients.cli.main", "up", "--data", str(place / "data")]
        command += ["--port", "0", "--web-port", "0", "--ready-file", str(ready_file)]
        command += ["--config", str(settings)] if config else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTWAY")}
        environment |= {"XDG_STATE_HOME": str(place / "state"), **database_settings}
        begun = time.perf_counter()
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            seconds = _until_ready(process, ready_file, log, begun)
            ready = json.loads(ready_file.read_text(encoding="utf-8"))
            token = Path(ready["token_file"]).read_text(encoding="ascii").strip()
            yield Stack(str(ready["host"]), token, ready["pids"], seconds)
        finally:
            _stop(process, log)


def _until_ready(process: "subprocess.Popen[bytes]", ready_file: Path, log: Path, begun: float) -> float:
    while not ready_file.exists():
        if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
            raise RuntimeError(f"portway up is not ready:\n{_tail(log)}")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - begun


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print(f"portway up did not stop on SIGTERM:\n{_tail(log)}", file=sys.stderr)


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]
