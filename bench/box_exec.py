"""The box: how much later a command ends than in the same sandbox built by hand, and what output, files, sessions cost.

    .venv/bin/python -m bench.box_exec [--quick | --full]

The floor is the sandbox with all of its isolation, started by one process that does nothing else and knows no gRPC
(`bench/kit/sandbox.py`). Both are measured in turns, in the same run.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.kit import machine
from bench.kit.numbers import p50, p99
from bench.kit.rows import Options, Row, at_least, at_most, of_floor, read_options, tell, times_floor
from portway.clients.supervisor.layout import write_private
from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.ids import new_id
from portway.rpc.tokens import mint_token
from portway.v1 import (
    file_pb2,
    file_pb2_grpc,
    process_pb2,
    process_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)

MEBI = 1024 * 1024
CALLERS = 16
FRAME = 512 * 1024


class Box:
    """A box in a process of its own."""

    def __init__(self, folder: Path) -> None:
        token = mint_token("admin")
        accepted = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": "admin", "workspace_id": "*"}
        write_private(folder / "accepted.json", json.dumps({"tokens": [accepted]}))
        ready = folder / "ready.json"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "portway.box", "--listen", "127.0.0.1:0", "--log-level", "warning"),
                *("--data", str(folder / "data"), "--credentials", str(folder / "accepted.json")),
                *("--ready-file", str(ready)),
            ]
        )
        while not ready.exists():
            if self.process.poll() is not None:
                raise SystemExit("the box did not start")
            time.sleep(0.01)
        self.address = json.loads(ready.read_text())["address"]
        self.token = token.text


@contextmanager
def box() -> Iterator[Box]:
    with tempfile.TemporaryDirectory(prefix="portway-bench-box-") as folder:
        running = Box(Path(folder))
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.wait(30)


class Session:
    """A session with as many processors as there are."""

    def __init__(self, channel: PortwayChannel, name: str, workspace: str = "") -> None:
        self.name = name
        self.workspace = workspace
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.processes = process_pb2_grpc.ProcessServiceStub(channel)
        self.files = file_pb2_grpc.FileServiceStub(channel)

    async def create(self, disk_bytes: int = 512 * MEBI) -> None:
        limits = session_pb2.SessionLimits(cpu_millis=1000 * len(machine.available()), disk_bytes=disk_bytes)
        spec = session_pb2.SessionSpec(limits=limits)
        await self.sessions.CreateSession(
            session_pb2.CreateSessionRequest(session_id=self.name, workspace_id=self.workspace, spec=spec)
        )

    async def true(self) -> None:
        command = process_pb2.Command(argv=process_pb2.Argv(args=["/bin/true"]))
        request = process_pb2.ExecOnceRequest(session_id=self.name, workspace_id=self.workspace, command=command)
        answer = await self.processes.ExecOnce(request)
        if answer.exit.exit_code or answer.exit.status != process_pb2.EXIT_STATUS_COMPLETED:
            raise AssertionError(f"the command failed: {answer}")

    async def output(self, size: int, *, lingers: bool = False) -> float:
        """Seconds until so many bytes of output were received."""
        call = self.processes.Exec()
        start = process_pb2.ExecStart(session_id=self.name, workspace_id=self.workspace)
        start.command.shell = f"head -c {size} /dev/zero"
        if lingers:
            start.request_id = new_id("eff")
            start.linger.FromSeconds(5)
        begun = time.perf_counter()
        await call.write(process_pb2.ExecRequest(start=start))
        received = 0
        async for frame in call:
            received += len(frame.stdout)
        if received != size:
            raise AssertionError(f"{received} of {size} bytes arrived")
        return time.perf_counter() - begun

    async def write(self, size: int) -> float:
        path = file_pb2.FilePath(session_id=self.name, path="bench.bin")
        data = file_pb2.WriteFileRequest(data=bytes(FRAME))

        async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
            yield file_pb2.WriteFileRequest(start=file_pb2.WriteFileStart(file=path))
            for _ in range(size // FRAME):
                yield data

        begun = time.perf_counter()
        await self.files.WriteFile(frames())
        return time.perf_counter() - begun

    async def read(self) -> tuple[int, float]:
        path = file_pb2.FilePath(session_id=self.name, path="bench.bin")
        begun, received = time.perf_counter(), 0
        async for piece in self.files.ReadFile(file_pb2.ReadFileRequest(file=path)):
            received += len(piece.data)
        return received, time.perf_counter() - begun


def by_hand(callers: int, count: int) -> list[float]:
    command = [sys.executable, "-m", "bench.kit.sandbox", str(callers), str(count)]
    taken: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return taken


async def one_caller(session: Session, options: Options) -> list[Row]:
    rounds, count = options.pick(2, 5, 10), options.pick(30, 60, 200)
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(rounds):
        floor += by_hand(1, count)[:-1]
        for _ in range(count):
            begun = time.perf_counter()
            await session.true()
            ours.append(time.perf_counter() - begun)
    measured, built = p50(ours) * 1000, p50(floor) * 1000
    return [
        Row("box: warm exec of true, one caller, p50", measured, "ms", built, times_floor(measured, built, 1.25)),
        Row("box: warm exec of true, one caller, p99", p99(ours) * 1000, "ms", p99(floor) * 1000),
    ]


async def many_callers(session: Session, options: Options) -> Row:
    rounds, count = options.pick(1, 3, 6), options.pick(320, 640, 1600)
    spent, built = 0.0, 0.0

    async def caller() -> None:
        for _ in range(count // CALLERS):
            await session.true()

    for _ in range(rounds):
        built += by_hand(CALLERS, count)[-1]
        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        spent += time.perf_counter() - begun
    rate, floor = rounds * count / spent, rounds * count / built
    return Row(f"box: warm exec of true, {CALLERS} callers", rate, "/s", floor, of_floor(rate, floor, 0.8))


async def bulk(session: Session, running: Box, options: Options) -> list[Row]:
    size = options.pick(50, 100, 1000) * 1_000_000
    seconds = min([await session.output(size) for _ in range(3)])
    rate = size / seconds / 1e6
    resumable = size / min([await session.output(size, lingers=True) for _ in range(3)]) / 1e6
    peak = _peak_memory(running.process.pid)
    written = options.pick(50, 200, 400) * MEBI
    write = written / await session.write(written) / 1e6
    received, taken = await session.read()
    return [
        Row(f"box: {size // 10**6} MB of output streamed whole", rate, "MB/s", goal=at_least(rate, 200, "MB/s")),
        Row("box: the same, of a command that can be come back to", resumable, "MB/s"),
        Row("box: peak memory of the server after it (RSS)", peak, "MiB", goal=at_most(peak, 100, "MiB")),
        Row("box: a file written", write, "MB/s"),
        Row("box: a file read", received / taken / 1e6, "MB/s"),
    ]


def _peak_memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells no peak")


async def held_sessions(channel: PortwayChannel, running: Box, options: Options) -> list[Row]:
    count = options.pick(30, 200, 200)
    idle, _rss = machine.memory(running.process.pid)
    # A workspace may have 128 of them.
    made = [Session(channel, f"held-{number}", f"half-{number % 2}") for number in range(count)]
    taken = []
    for session in made:
        begun = time.perf_counter()
        await session.create(disk_bytes=64 * MEBI)
        taken.append(time.perf_counter() - begun)
    processes = machine.family(running.process.pid)
    everything = sum(_pss(pid) for pid in processes)
    server = machine.memory(running.process.pid)[0]
    await made[-1].true()
    return [
        Row("box: a session made, p50", p50(taken) * 1000, "ms", note=f"p99 {p99(taken) * 1000:.1f} ms"),
        Row("box: memory of the server, one session (PSS)", idle, "MiB", goal=at_most(idle, 60, "MiB")),
        Row(
            f"box: memory of everything with {count} sessions held (PSS)",
            everything,
            "MiB",
            note=f"{len(processes)} processes; the server alone {server:.0f} MiB",
        ),
    ]


def _pss(pid: int) -> float:
    try:
        return machine.memory(pid)[0]
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return 0.0


async def run(options: Options) -> list[Row]:
    rows: list[Row] = []
    with box() as running:
        arguments: dict[str, Any] = {"token": running.token}
        async with open_channel(running.address, **arguments) as channel:
            session = Session(channel, "bench")
            await session.create()
            for _ in range(10):
                await session.true()
            rows += await one_caller(session, options)
            rows.append(await many_callers(session, options))
            rows += await bulk(session, running, options)
            rows += await held_sessions(channel, running, options)
    return rows


def main() -> None:
    options = read_options(__doc__)
    tell(asyncio.run(run(options)), options)


if __name__ == "__main__":
    main()
