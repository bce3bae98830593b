"""A disk that fills up under a serving host: refused with a reason, never an OK, and all goes on when there is room."""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from portway.rpc.errors import PortwayError
from portway.v1 import event_pb2, run_pb2
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.faults.small_disk import why_not, within

FILLER = 30 * 1024 * 1024
"""With the 64 MiB that must stay free it leaves room for some messages."""
TEXT = "x" * 200_000
pytestmark = pytest.mark.skipif(bool(why_not("tmpfs")), reason=f"no mount namespace here: {why_not('tmpfs')}")


def fill(file: Path, size: int = 1 << 40) -> None:
    """So many bytes, or all that there are."""
    with file.open("wb") as out, suppress(OSError):
        while out.tell() < size:
            out.write(bytes(1024 * 1024))
            out.flush()


async def until_refused(process: HostProcess) -> tuple[list[event_pb2.SubmitEventResponse], Counter[str]]:
    accepted, refused = [], Counter[str]()
    async with process.client() as host:
        for number in range(1000):
            try:
                accepted.append(await submit(host, TEXT, f"key-{number}", f"chat-{number}"))
            except PortwayError as error:
                refused[str(error.reason)] += 1
                if sum(refused.values()) >= 20:
                    break
    return accepted, refused


async def test_a_host_on_a_full_disk_refuses_keeps_and_recovers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        async with serving(HostProcess(tmp_path, runtime, within=within("tmpfs", data))) as process:
            # The namespace is the host's; its root is the way in.
            disk = Path(f"/proc/{process.pid}/root{data}")
            fill(disk / "filler", FILLER)
            accepted, refused = await until_refused(process)
            print(f"{len(accepted)} taken, {dict(refused)} refused")
            assert len(accepted) >= 5 and set(refused) == {"DISK_FULL"}
            # Not even what the host keeps free for what is under way.
            fill(disk / "rest")
            async with process.client() as host:
                with pytest.raises(PortwayError):
                    await submit(host, TEXT, "key-full", "chat-full")
            os.unlink(disk / "rest")
            os.unlink(disk / "filler")
            async with process.client() as host:
                again = [await submit(host, TEXT, f"key-{n}", f"chat-{n}") for n in range(len(accepted))]
                assert [one.event_id for one in again] == [one.event_id for one in accepted]
                assert (await submit(host, "more", "key-more", "chat-more")).run_id
            runs = [await ended(process, one.run_id) for one in accepted]
            # One that met the full disk may have failed; it has ended, and most went well.
            states = Counter(run.state for run in runs)
            assert states[run_pb2.RUN_STATE_COMPLETED] > len(runs) / 2, runs
            assert process.starts == 1
