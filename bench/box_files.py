"""Files of the box: how fast they are written, read, packed and unpacked over the wire.

    .venv/bin/python -m bench.box_files [--quick | --full]

The floor is a program in the same session that writes and reads the same bytes in the same file system.
"""

import asyncio
import json
import tarfile
import time
from collections.abc import AsyncIterator

from bench.box_exec import MEBI, Box, Session, box
from bench.kit.rows import Options, Row, at_least, read_options, tell
from portway.rpc.channel import open_channel
from portway.v1 import file_pb2, process_pb2

FRAME = 1024 * 1024
_PLAIN = """
import json, sys, time
size, piece = int(sys.argv[1]), bytes(1 << 20)
begun = time.perf_counter()
with open("plain.bin", "wb", buffering=0) as file:
    for _ in range(size >> 20):
        file.write(piece)
written = time.perf_counter() - begun
begun = time.perf_counter()
with open("plain.bin", "rb", buffering=0) as file:
    while file.read(1 << 20):
        pass
print(json.dumps([written, time.perf_counter() - begun]))
"""


async def plain(session: Session, size: int) -> tuple[float, float]:
    """Seconds to write and to read, from inside."""
    argv = process_pb2.Argv(args=["/usr/bin/python3", "-c", _PLAIN, str(size)])
    request = process_pb2.ExecOnceRequest(session_id=session.name, command=process_pb2.Command(argv=argv))
    answer = await session.processes.ExecOnce(request)
    written, read = json.loads(answer.stdout)
    return written, read


def header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


async def upload(session: Session, size: int) -> float:
    place = file_pb2.FilePath(session_id=session.name, path=".")

    async def frames() -> AsyncIterator[file_pb2.UploadRequest]:
        yield file_pb2.UploadRequest(start=file_pb2.UploadStart(directory=place))
        yield file_pb2.UploadRequest(data=header("up.bin", size))
        for _ in range(size // FRAME):
            yield file_pb2.UploadRequest(data=bytes(FRAME))
        yield file_pb2.UploadRequest(data=bytes(2 * tarfile.BLOCKSIZE))

    begun = time.perf_counter()
    await session.files.Upload(frames())
    return time.perf_counter() - begun


async def small_files(session: Session, count: int) -> float:
    """Seconds to unpack so many small files."""
    one = b"".join(header(f"small/{number // 100}/{number}", 100) + bytes(512) for number in range(count))
    archive = one + bytes(2 * tarfile.BLOCKSIZE)
    place = file_pb2.FilePath(session_id=session.name, path=".")

    async def frames() -> AsyncIterator[file_pb2.UploadRequest]:
        yield file_pb2.UploadRequest(start=file_pb2.UploadStart(directory=place))
        for at in range(0, len(archive), FRAME):
            yield file_pb2.UploadRequest(data=archive[at : at + FRAME])

    begun = time.perf_counter()
    await session.files.Upload(frames())
    return time.perf_counter() - begun


async def download(session: Session, path: str) -> tuple[int, float]:
    request = file_pb2.DownloadRequest(file=file_pb2.FilePath(session_id=session.name, path=path))
    begun, received = time.perf_counter(), 0
    async for piece in session.files.Download(request):
        received += len(piece.data)
    return received, time.perf_counter() - begun


def row(name: str, size: int, seconds: float, floor: float) -> Row:
    rate, alone = size / seconds / 1e6, size / floor / 1e6
    return Row(name, rate, "MB/s", alone, at_least(rate, 200, "MB/s"))


async def measure(running: Box, options: Options) -> list[Row]:
    size, count = options.pick(64, 200, 400) * MEBI, options.pick(2000, 10_000, 50_000)
    async with open_channel(running.address, token=running.token) as channel:
        session = Session(channel, "files")
        await session.create(disk_bytes=4096 * MEBI)
        written, read = await plain(session, size)
        write = await session.write(size)
        received, reading = await session.read()
        uploading = await upload(session, size)
        packed, packing = await download(session, "up.bin")
        unpacking = await small_files(session, count)
        _bytes, walking = await download(session, "small")
        return [
            row("box: a file written", size, write, written),
            row("box: a file read", received, reading, read),
            row("box: an archive unpacked", size, uploading, written),
            row("box: an archive packed", packed, packing, read),
            Row("box: small files unpacked", count / unpacking, "/s"),
            Row("box: small files packed", count / walking, "/s"),
        ]


async def run(options: Options) -> list[Row]:
    with box() as running:
        return await measure(running, options)


def main() -> None:
    options = read_options(__doc__)
    tell(asyncio.run(run(options)), options)


if __name__ == "__main__":
    main()
