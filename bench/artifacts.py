"""Files read from the host: artifacts of 1 MiB, whole, one after the other and by several callers.

    .venv/bin/python -m bench.artifacts [--quick | --full]

The files lie in the host's blob store and are read with the token of an operator; every byte is compared. The floor is
a bare server that streams the same number of bytes from memory in pieces of the same size.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import uvloop

from bench.kit import floor, machine, runs
from bench.kit.rows import Options, Row, at_least, read_options, tell
from bench.kit.stack import Stack, installation
from portway.rpc.channel import open_channel
from portway.v1 import artifact_pb2, artifact_pb2_grpc

SIZE, FILES, ROUNDS, CALLERS = 1 << 20, 16, 5, 8
FRAME = 256 * 1024
MB = 1_000_000


async def create(stub: Any, content: bytes) -> str:
    async def frames() -> AsyncIterator[artifact_pb2.CreateArtifactRequest]:
        start = artifact_pb2.CreateArtifactStart(name="file.bin", mime_type="application/octet-stream")
        yield artifact_pb2.CreateArtifactRequest(start=start)
        for at in range(0, len(content), FRAME):
            yield artifact_pb2.CreateArtifactRequest(data=content[at : at + FRAME])

    answer = await stub.CreateArtifact(frames())
    return str(answer.artifact.ref.artifact_id)


async def read(stub: Any, artifact_id: str) -> bytes:
    call = stub.ReadArtifact(artifact_pb2.ReadArtifactRequest(artifact_id=artifact_id))
    return b"".join([response.data async for response in call])


async def rate(stub: Any, files: dict[str, bytes], count: int, callers: int) -> float:
    """MB a second of `count` reads."""
    numbers, names = iter(range(count)), list(files)

    async def caller() -> None:
        for number in numbers:
            name = names[number % len(names)]
            if await read(stub, name) != files[name]:
                raise AssertionError(f"{name} came back changed")

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count * SIZE / MB / (time.perf_counter() - begun)


async def measure(stack: Stack, bare: str, options: Options) -> list[Row]:
    count = options.pick(60, 300)
    taken: dict[int, list[float]] = {1: [], CALLERS: []}
    floors: list[float] = []
    async with open_channel(stack.host, token=stack.token) as channel, floor.dial(bare) as plain:
        stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
        contents = [os.urandom(SIZE) for _ in range(FILES)]
        files = {await create(stub, content): content for content in contents}
        for _ in range(ROUNDS):
            floors.append(await floor.flood_rate(plain, FRAME, count * SIZE // FRAME) * FRAME / MB)
            for callers, rates in taken.items():
                rates.append(await rate(stub, files, count, callers))
    base = statistics.median(floors)
    return [
        Row(
            f"artifacts of 1 MiB read, {callers} caller{'s' * (callers > 1)}",
            statistics.median(rates),
            "MB/s",
            base,
            at_least(statistics.median(rates), 400, "MB/s"),
            "every byte compared",
        )
        for callers, rates in taken.items()
    ]


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"{cores}; {ROUNDS} rounds, medians", flush=True)
    with floor.bare_server(cores.server) as bare, installation(runs.CONFIG) as stack:
        stack.pin(cores.server)
        machine.pin_self(cores.client)
        rows = uvloop.run(measure(stack, bare, options))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
