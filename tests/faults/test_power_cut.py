"""The power goes: what was acknowledged is on the disk itself, not in the memory of the kernel.

The host writes to an ext4 in a file. A copy of the file is what a disk would hold if the power went at that moment:
what was not written through (fsync) is not in it.
"""

import shutil
from pathlib import Path

import pytest

from portway.v1 import run_pb2
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.faults.small_disk import make_image, why_not, within

MESSAGES = 20
pytestmark = pytest.mark.skipif(bool(why_not("ext4")), reason=f"no loop mount here: {why_not('ext4')}")


async def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    image, after = tmp_path / "disk.img", tmp_path / "after.img"
    make_image(image)
    data = tmp_path / "data"
    data.mkdir()
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        accepted = []
        async with serving(HostProcess(tmp_path, runtime, within=within("ext4", data, image))) as process:
            async with process.client() as host:
                for number in range(MESSAGES):
                    accepted.append(await submit(host, f"m{number}", f"key-{number}", f"chat-{number}"))
            shutil.copyfile(image, after)
        second = tmp_path / "second"
        (second / "data").mkdir(parents=True)
        # The token of the first life is in the folder; the database knows it.
        shutil.copyfile(tmp_path / "admin.token", second / "admin.token")
        (second / "admin.token").chmod(0o600)
        async with serving(HostProcess(second, runtime, within=within("ext4", second / "data", after))) as process:
            async with process.client() as host:
                again = [await submit(host, f"m{n}", f"key-{n}", f"chat-{n}") for n in range(MESSAGES)]
            assert [one.duplicate for one in again] == [True] * MESSAGES
            assert [one.event_id for one in again] == [one.event_id for one in accepted]
            states = [(await ended(process, one.run_id)).state for one in accepted]
            assert states == [run_pb2.RUN_STATE_COMPLETED] * MESSAGES
