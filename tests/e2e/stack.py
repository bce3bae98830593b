"""The whole of Portway as a person starts it: `portway up` as a process, on free ports, on an empty folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from portway.clients.host import Portway
from portway.rpc.channel import ClientTls, open_channel
from portway.v1 import run_pb2_grpc
from tests.ownership import assert_no_work_left

START_SECONDS = 120
STOP_SECONDS = 120
COMMAND_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.out)
        return document


class Stack:
    """A running installation."""

    def __init__(self, process: asyncio.subprocess.Process, data: Path, ready_file: Path) -> None:
        self.process = process
        self.data = data
        self.tls: ClientTls | None = None
        self.ready_file = ready_file

    @property
    def ready(self) -> dict[str, object]:
        content: dict[str, object] = json.loads(self.ready_file.read_text(encoding="utf-8"))
        return content

    @property
    def host_address(self) -> str:
        return str(self.ready["host"])

    @property
    def box_address(self) -> str:
        return str(self.ready["box"])

    @property
    def web_address(self) -> str:
        return str(self.ready["web"])

    @property
    def token(self) -> str:
        return Path(str(self.ready["token_file"])).read_text(encoding="ascii").strip()

    def pid(self, part: str) -> int:
        pids = self.ready["pids"]
        assert isinstance(pids, dict)
        return int(pids[part])

    def client(self) -> Portway:
        return Portway(self.host_address, token=self.token)

    def environment(self) -> dict[str, str]:
        """What a person has who works with this installation and no other."""
        return {
            **clean_environment(),
            "PORTWAY_HOST": self.host_address,
            "PORTWAY_BOX": str(self.ready.get("box", "")),
            "PORTWAY_RUNTIME": str(self.ready.get("runtime", "")),
            "PORTWAY_TOKEN_FILE": str(self.ready["token_file"]),
        }

    async def portway(self, *arguments: str, stdin: bytes | None = None) -> Outcome:
        """Run a command of the command line against this installation."""
        return await command(self.environment(), *arguments, stdin=stdin)

    async def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a part; after SIGKILL wait until it is gone. Returns its process id."""
        pid = self.pid(part)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            await until(lambda: not alive(pid), f"{part} to be gone")
        return pid

    async def restarted(self, part: str, old_pid: int) -> None:
        """Wait until the supervisor has a new process of the part serving."""
        await until(lambda: self.ready_file.exists() and self.pid(part) != old_pid, f"{part} to be back")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PORTWAY")}


def alive(pid: int) -> bool:
    """The process runs; one that has ended and was not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


async def until(condition: object, what: str, seconds: float = START_SECONDS) -> None:
    """Wait for a condition; say what never came."""
    assert callable(condition)
    try:
        async with asyncio.timeout(seconds):
            while True:
                with suppress(FileNotFoundError, json.JSONDecodeError):
                    if condition():
                        return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s for {what}") from None


async def command(environment: Mapping[str, str], *arguments: str, stdin: bytes | None = None) -> Outcome:
    """Run `portway` with arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway.clients.cli.main", *arguments),
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), COMMAND_SECONDS)
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


@asynccontextmanager
async def started(folder: Path, *arguments: str, config: str = "", **settings: str) -> AsyncIterator[Stack]:
    """An installation with its data below the folder. `settings` are variables without their `PORTWAY__`.

    After the block nothing of its work may be left.
    """
    data, ready_file, log = folder / "data", folder / "ready.json", folder / "up.log"
    more = list(arguments)
    if config:
        path = folder / "portway.yaml"
        path.write_text(config, encoding="utf-8")
        more += ["--config", str(path)]
    environment = clean_environment() | {f"PORTWAY__{name}": value for name, value in settings.items()}
    environment["XDG_STATE_HOME"] = str(folder / "state")
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway.clients.cli.main", "up"),
            *("--data", str(data), "--port", "0", "--web-port", "0", "--ready-file", str(ready_file), *more),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    stack = Stack(process, data, ready_file)
    try:
        await until(lambda: ready_file.exists() or process.returncode is not None, "the ready file")
        assert process.returncode is None, f"portway up ended:\n{_tail(log)}"
        yield stack
        if process.returncode is None:
            async with open_channel(stack.host_address, token=stack.token, tls=stack.tls) as channel:
                await assert_no_work_left(run_pb2_grpc.RunServiceStub(channel))
    finally:
        await _stop(process, log)


async def _stop(process: asyncio.subprocess.Process, log: Path) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"portway up did not stop on SIGTERM:\n{_tail(log)}") from None


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]
