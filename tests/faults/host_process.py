"""The host as a process that a test kills at a moment of its choice; the test plays runtime and box."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from portway.clients.host import Portway
from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import event_pb2, run_pb2, run_pb2_grpc
from tests.fakes.box_server import FakeBox
from tests.fakes.runtime_server import RUNNER, FakeRuntime
from tests.ownership import assert_no_work_left
from tests.postgres import free_port
from tests.server.hosting import a_message

SECONDS = 120
ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)

_CONFIG = """
host:
  limits: {{runner_patience: 30, stop_grace: 0.5, drain: 2}}
agents:
- agent_id: assistant
  runner_id: {runner}
  on_interrupted: {interrupted}
  box_policy: {{tools: ["*"]}}
  {agent}
bindings:
- binding_id: all
  scope: BINDING_SCOPE_WORKSPACE
  agent_id: assistant
"""


class HostProcess:
    """One data folder and the processes that serve it, one after the other."""

    def __init__(
        self,
        folder: Path,
        runtime: FakeRuntime,
        box: FakeBox | None = None,
        interrupted: str = "RETRY",
        agent: str = "",
        database: str = "",
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """`within` stands before the command: what it is to run in."""
        self._folder = folder
        self._within = within
        # In the environment, as an operator does it: what is in a URL is not for `ps`.
        self._environment = os.environ | ({"PORTWAY__HOST__DATABASE": database} if database else {})
        self._environment |= environment or {}
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        settings = _CONFIG.format(runner=RUNNER, interrupted=f"INTERRUPTED_POLICY_{interrupted}", agent=agent)
        for name, text in (
            ("runtime.credential", runtime.token),
            ("box.credential", box.token if box else ""),
            ("portway.yaml", settings),
        ):
            (folder / name).write_text(text)
        self._arguments = [
            "--data",
            str(folder / "data"),
            "--listen",
            "127.0.0.1:0",
            "--config",
            self._path("portway.yaml"),
        ]
        self._arguments += ["--ready-file", self._path("ready"), "--admin-token-file", self._path("admin.token")]
        self._arguments += ["--runtime", runtime.address, "--runtime-credential", self._path("runtime.credential")]
        if box is not None:
            self._arguments += ["--box", box.address, "--box-credential", self._path("box.credential")]

    def listen_again(self) -> None:
        """On one port from life to life, as in an installation."""
        self._arguments[self._arguments.index("--listen") + 1] = f"127.0.0.1:{free_port()}"

    async def start(self) -> None:
        """Serve; answers when it does."""
        await self.begin()
        async with asyncio.timeout(SECONDS):
            while not self._ready.exists():
                assert self._process is not None and self._process.returncode is None, self.log()
                await asyncio.sleep(0.01)

    async def begin(self) -> None:
        """Start, and do not wait for anything."""
        self.starts += 1
        self._ready.unlink(missing_ok=True)
        with (self._folder / "host.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._within, sys.executable, "-m", "portway.server", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    async def kill(self) -> None:
        """As the kernel kills: at once, wherever it is."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def stop(self) -> int:
        """Ask it to end; answers its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), SECONDS)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def database(self) -> Path:
        """The file, where it is SQLite."""
        return self._folder / "data" / "portway.db"

    def client(self, port: int = 0) -> Portway:
        """Straight to it, or through what listens on a port of this machine."""
        return Portway(f"127.0.0.1:{port}" if port else self._address, token=self.token)

    def channel(self) -> AbstractAsyncContextManager[PortwayChannel]:
        """For methods that the client has no name for."""
        return open_channel(self._address, token=self.token)

    @property
    def _address(self) -> str:
        return str(json.loads((self._folder / "ready").read_text())["address"])

    @property
    def _ready(self) -> Path:
        return self._folder / "ready"

    @property
    def port(self) -> int:
        return int(self._address.rpartition(":")[2])

    @property
    def token(self) -> str:
        return (self._folder / "admin.token").read_text().strip()

    def command_line(self) -> str:
        """As every user of the machine may see it."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/cmdline").read_text()

    def log(self) -> str:
        return (self._folder / "host.log").read_text(errors="replace")[-4000:]

    def _path(self, name: str) -> str:
        return str(self._folder / name)


async def submit(host: Portway, text: str, key: str, chat: str) -> event_pb2.SubmitEventResponse:
    request = event_pb2.SubmitEventRequest(event=a_message(text, chat=chat, surface="api"), idempotency_key=key)
    with errors_by_meaning():
        answer: event_pb2.SubmitEventResponse = await host.events.SubmitEvent(request, timeout=10)
    return answer


async def ended(process: HostProcess, run_id: str) -> run_pb2.Run:
    """The run after its end, whatever happens to the host meanwhile."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with process.client() as host:
                    run = await host.runs.get(run_id)
                if run.state in ENDED:
                    return run
            except (PortwayError, OSError, ValueError):
                pass
            await asyncio.sleep(0.05)


async def said(process: HostProcess, conversation_id: str) -> list[tuple[str, str]]:
    """Kind and text of what the agent or the host said."""
    async with process.client() as host:
        items: Any = (await host.history(conversation_id)).items
    return [(item.kind, item.content) for item in items if item.event_id == "" or item.run_id]


@asynccontextmanager
async def serving(process: HostProcess) -> AsyncIterator[HostProcess]:
    """Until the block ends: then nothing of its work may be left, whatever was killed in between."""
    await process.start()
    try:
        yield process
        if process.alive:
            async with process.channel() as channel:
                await assert_no_work_left(run_pb2_grpc.RunServiceStub(channel))
    finally:
        await process.kill()
