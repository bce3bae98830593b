"""The server's side of an import: starts the process that unpacks, feeds it, and takes its result."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portway.box.images.unpack.terms import Bounds, Measured
from portway.box.isolation.descriptors import Descriptor, nonblocking_pipe, widen_pipe
from portway.rpc.errors import DeadlineExceeded, InvalidInput, LimitExceeded, Unavailable

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from portway.box.images.unpack.program import main; main()"
)
_RESULT_BYTES = 512 * 1024
# To digest what was unpacked, and to bring it to the disk.
_FINISH_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who unpacks: `user` is `None` for this server's own; `filters` gives the programs for system calls."""

    user: int | None
    filters: Callable[[], tuple[bytes, ...]]


async def unpack(
    place: Path, data: AsyncIterator[bytes], bounds: Bounds, confinement: Confinement, idle: float
) -> tuple[Measured, tuple[str, ...]]:
    """Unpacks a stream to `place`/root, and what was left out. The process is gone when this returns, whatever it does.

    Raises `InvalidInput` and `LimitExceeded` with what the stream has, `DeadlineExceeded` where nothing more comes for
    `idle` seconds, `Unavailable` where the process died.
    """
    reading, feed = nonblocking_pipe(reader_is_ours=False)
    answer, told = nonblocking_pipe(reader_is_ours=True)
    stream, result = Descriptor(feed), Descriptor(answer)
    widen_pipe(feed)
    try:
        process = _start(place, bounds, confinement, reading, told)
    except BaseException:
        stream.close()
        result.close()
        raise
    finally:
        os.close(reading)
        os.close(told)
    try:
        await _feed(stream, data, idle)
        stream.close()
        async with asyncio.timeout(_FINISH_SECONDS):
            document = await _all(result)
    except TimeoutError:
        raise Unavailable("the import took too long to finish on this machine; try again") from None
    finally:
        stream.close()
        result.close()
        await _end(process)
    return _outcome(document)


def _start(place: Path, bounds: Bounds, who: Confinement, reading: int, told: int) -> "subprocess.Popen[bytes]":
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if who.user is not None:
            os.fchown(directory, who.user, who.user)
        settings = {
            "place": directory,
            "user": who.user,
            "bounds": asdict(bounds),
            "filters": [program.hex() for program in who.filters()],
        }
        paths = json.dumps([path for path in sys.path if path])
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, paths, json.dumps(settings)],
            env={},
            stdin=reading,
            stdout=told,
            stderr=subprocess.DEVNULL,
            pass_fds=[directory],
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(directory)


async def _feed(stream: Descriptor, data: AsyncIterator[bytes], idle: float) -> None:
    """To the end of the data, or until the process does not want more: then it has a result already."""
    while True:
        try:
            async with asyncio.timeout(idle):
                piece = await anext(data, None)
        except TimeoutError:
            raise DeadlineExceeded(f"no data came for {idle:g} s: the import was given up; begin it again") from None
        if piece is None or not await stream.write(piece):
            return


async def _all(result: Descriptor) -> bytes:
    collected = b""
    while (piece := await result.read(_RESULT_BYTES)) and len(collected) <= _RESULT_BYTES:
        collected += piece
    return collected


async def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # Shielded: nothing may be removed below a process that still writes.
    await asyncio.shield(asyncio.to_thread(process.wait))


def _outcome(document: bytes) -> tuple[Measured, tuple[str, ...]]:
    try:
        told: dict[str, Any] = json.loads(document)
    except ValueError:
        raise Unavailable("the process that unpacks images died; try again, and look at the box's log") from None
    if "refused" in told:
        message = f"the archive cannot become an image: {told['refused']}"
        if told["kind"] == "size":
            raise LimitExceeded(message)
        raise InvalidInput.field("data", message)
    return Measured(**told["measured"]), tuple(told["notes"])
