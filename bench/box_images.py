"""The box with images: what a command and a session cost with one and without, and how fast an import goes.

    .venv/bin/python -m bench.box_images [--quick | --full]

The image is a few programs of this machine beside random bytes, so that nothing is saved by packing or by holes.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence

from bench.box_exec import MEBI, Session, box
from bench.kit.numbers import p50
from bench.kit.rows import Options, Row, read_options, tell, times_floor
from portway.clients.box import Box
from portway.rpc.channel import open_channel
from portway.v1 import process_pb2, session_pb2
from tests.box import roots

IMAGE = "bench:1"
PROGRAMS = (*roots.PROGRAMS, "true")


class Imaged(Session):
    """A session that starts from the image."""

    async def create(self, disk_bytes: int = 512 * MEBI) -> None:
        spec = session_pb2.SessionSpec(image=IMAGE, limits=session_pb2.SessionLimits(disk_bytes=disk_bytes))
        await self.sessions.CreateSession(session_pb2.CreateSessionRequest(session_id=self.name, spec=spec))


async def shell(session: Session) -> None:
    command = process_pb2.Command(shell="exit 0")
    answer = await session.processes.ExecOnce(process_pb2.ExecOnceRequest(session_id=session.name, command=command))
    if answer.exit.exit_code or answer.exit.status != process_pb2.EXIT_STATUS_COMPLETED:
        raise AssertionError(f"the command failed: {answer}")


async def commands(plain: Session, imaged: Session, options: Options) -> list[Row]:
    count = options.pick(40, 150, 500)
    taken: dict[str, list[float]] = {"argv": [], "shell": [], "plain": [], "plain shell": []}
    kinds = (("plain", plain.true), ("argv", imaged.true))
    shells = (("plain shell", plain), ("shell", imaged))
    for _ in range(count):
        for name, run_true in kinds:
            begun = time.perf_counter()
            await run_true()
            taken[name].append(time.perf_counter() - begun)
        for name, session in shells:
            begun = time.perf_counter()
            await shell(session)
            taken[name].append(time.perf_counter() - begun)
    middle = {name: p50(all_of) * 1000 for name, all_of in taken.items()}
    return [
        Row("box: exec of true with an image, p50", middle["argv"], "ms", middle["plain"], note="floor: without one"),
        Row("box: a shell command with an image, p50", middle["shell"], "ms", middle["plain shell"]),
    ]


async def creations(plain: Sequence[Session], imaged: Sequence[Session]) -> Row:
    taken: dict[bool, list[float]] = {True: [], False: []}
    for without, with_image in zip(plain, imaged, strict=True):
        for session in (without, with_image):
            begun = time.perf_counter()
            await session.create(disk_bytes=64 * MEBI)
            taken[session is with_image].append(time.perf_counter() - begun)
    measured, floor = p50(taken[True]) * 1000, p50(taken[False]) * 1000
    return Row("box: a session made from an image, p50", measured, "ms", floor, times_floor(measured, floor, 2))


async def imports(client: Box, options: Options) -> Row:
    """Of a tar of files of 1 MiB; the floor is the disk: the same bytes written and synced by one process."""
    size = options.pick(64, 256, 1024)
    data = roots.tar_of(*(roots.file(f"data/{number}", os.urandom(MEBI)) for number in range(size)))

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(data), MEBI):
            yield data[begin : begin + MEBI]

    begun = time.perf_counter()
    await client.import_image("bench-bytes:1", pieces())
    rate = len(data) / (time.perf_counter() - begun) / 1e6
    return Row("box: an image imported", rate, "MB/s", _disk(data), note="floor: written to one file and synced")


def _disk(data: bytes) -> float:
    with tempfile.TemporaryFile() as file:
        begun = time.perf_counter()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return len(data) / (time.perf_counter() - begun) / 1e6


async def run(options: Options) -> list[Row]:
    with box() as running:
        async with open_channel(running.address, token=running.token) as channel:
            await roots.import_image(channel, IMAGE, roots.tar_of(*roots.root_entries(PROGRAMS)))
            plain, imaged = Session(channel, "plain"), Imaged(channel, "imaged")
            for session in (plain, imaged):
                await session.create()
                for _ in range(5):
                    await session.true()
            rows = await commands(plain, imaged, options)
            count = options.pick(5, 20, 60)
            without = [Session(channel, f"plain-{number}") for number in range(count)]
            rows.append(await creations(without, [Imaged(channel, f"imaged-{number}") for number in range(count)]))
        async with Box(running.address, token=running.token) as client:
            rows.append(await imports(client, options))
    return rows


def main() -> None:
    options = read_options(__doc__)
    tell(asyncio.run(run(options)), options)


if __name__ == "__main__":
    main()
