"""A full disk is never an OK: refused clearly, nothing acknowledged is lost, and it goes on when there is room."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = Path(__file__).parent / "programs" / "fill_the_disk.py"
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


def _why_no_namespace() -> str:
    try:
        tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "the program `unshare` is not installed"
    return tried.stderr.strip()


REASON = _why_no_namespace()


@pytest.mark.skipif(bool(REASON), reason=f"no mount namespace here, so no small disk: {REASON}")
async def test_a_full_disk_refuses_keeps_and_recovers(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *NAMESPACE, sys.executable, str(_PROGRAM), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(output)
    assert told["acknowledged"] > 50
    assert set(told["refused"]) == {"DISK_FULL"}
    assert (told["lost"], told["lost_after_reopening"]) == ([], [])
    assert told["after"] is True
    assert told["check"] == [["ok"]]
    assert (told["blob"], told["uploads_left"]) == ("DISK_FULL", 0)
    assert "full" in told["second"]
    assert "must stay free" in told["low"]
