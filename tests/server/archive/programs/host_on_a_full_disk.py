"""In a mount namespace of its own: a whole host whose disk fills up while a run is under way, and gets room again.

Prints one JSON object with what happened. The test that starts it reads that; nothing is asserted here.
"""

import asyncio
import ctypes
import json
import os
import sys
from pathlib import Path

from portway.rpc.errors import LimitExceeded
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.archive.tools import tool
from tests.server.hosting import Hosted, hosted

_MIB = 1024 * 1024
_SIZE = 160 * _MIB


def mount_small_disk(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"small", os.fsencode(folder), b"tmpfs", 0, f"size={_SIZE},mode=0700".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def fill(folder: Path, leave: int) -> None:
    """Until so many bytes are free; 0: until nothing more can be written."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        try:
            while not leave or os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > leave:
                file.write(b"\0" * 4096)
        except OSError:
            return


async def tried(served: Hosted, key: str) -> str:
    try:
        await served.submit("hello", key=key)
    except LimitExceeded as error:
        return str(error.reason)
    return "accepted"


async def accepted_again(served: Hosted) -> str:
    """Room is looked at once a second."""
    async with asyncio.timeout(30):
        while (said := await tried(served, "later")) != "accepted":  # noqa: ASYNC110 - the host looks at the disk
            await asyncio.sleep(0.1)
    return said


async def main(folder: Path) -> dict[str, object]:
    mount_small_disk(folder)
    go_on = asyncio.Event()

    async def script(run: FakeRun) -> None:
        await run.say("half of an ")
        await go_on.wait()
        await run.answer("answer")

    told: dict[str, object] = {}
    runtime = FakeRuntime(script=script)
    async with serve_fake_runtime(runtime), hosted(folder, runtime) as served:
        await served.set_agent()
        first = await served.submit("hello", key="first")
        fill(folder, 20 * _MIB)
        async with asyncio.timeout(30):
            while (said := await tried(served, os.urandom(4).hex())) == "accepted":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        told["low"] = said
        go_on.set()
        told["under way"] = (await served.ended(first.run_id)).state
        fill(folder, 0)
        told["full"] = await tried(served, "while full")
        for command in ("backup", "export"):
            done = await tool(command, "--host-data", folder / "host", folder / "a.zip")
            told[command] = (done.code, "MiB are needed" in done.err or "is full" in done.err)
        told["left over"] = sorted(name for name in os.listdir(folder) if "a.zip" in name)
        (folder / "ballast").unlink()
        told["with room"] = await accepted_again(served)
        told["backup again"] = (await tool("backup", "--host-data", folder / "host", folder / "a.zip")).code
        told["known"] = (await served.submit("hello", key="first")).duplicate
    told["check"] = (await tool("check", "--host-data", folder / "host")).code
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
