"""A whole host on a disk that fills up: what runs ends well, nothing acknowledged is lost, and it goes on with room."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from portway.v1 import run_pb2
from tests.server.storage_engine.test_disk_full import NAMESPACE, REASON

_PROGRAM = Path(__file__).parent / "programs" / "host_on_a_full_disk.py"
_ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(bool(REASON), reason=f"no mount namespace here, so no small disk: {REASON}")
async def test_a_host_on_a_full_disk_refuses_keeps_and_goes_on(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*NAMESPACE, sys.executable, str(_PROGRAM), str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    # The host's log lines come first.
    told = json.loads(output.decode().splitlines()[-1])
    assert told["low"] == told["full"] == "DISK_FULL"
    assert told["under way"] == run_pb2.RUN_STATE_COMPLETED
    assert told["backup"] == told["export"] == [1, True]
    assert told["left over"] == []
    assert told["with room"] == "accepted"
    assert told["known"] is True
    assert (told["backup again"], told["check"]) == (0, 0)
