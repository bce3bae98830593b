"""A real MCP server in a process of its own, over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import text_of, until

PROGRAM = Path(__file__).parent / "server_program.py"


@dataclass
class HttpServer:
    """Where it is; killed and started again it has the same address."""

    folder: Path
    mode: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        path = "mcp" if self.mode == "http" else "sse"
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}/{path}"

    @property
    def counted(self) -> list[str]:
        return text_of(self.folder / "count").split()

    async def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - the tests start it and go on
                [sys.executable, PROGRAM, self.mode, self.folder / "port", self.folder / "count"],
                stdout=log,
                stderr=log,
            )
        await until((self.folder / "port").exists)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def http_server(folder: Path, mode: str) -> Iterator[HttpServer]:
    folder.mkdir(exist_ok=True)
    server = HttpServer(folder, mode)
    try:
        yield server
    finally:
        server.kill()
