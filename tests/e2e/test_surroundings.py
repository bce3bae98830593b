"""What `portway up` hands to its parts, looked at in the kernel's own account of them."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import clean_environment, command, started


def environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(line.split("=", 1) for line in raw.split("\0") if line)


async def test_a_key_that_is_named_is_in_the_host_alone_and_a_stranger_is_in_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_VENDORS_KEY", "canary-of-a-vendor")
    monkeypatch.setenv("SOMEBODY_ELSES_KEY", "canary-of-somebody")
    config = "models: {providers: {one: {kind: openai, api_key_env: SOME_VENDORS_KEY, models: [{id: m}]}}}\n"
    async with started(tmp_path, config=config) as stack:
        pids: Any = stack.ready["pids"]
        found = {name: environment_of(pid) for name, pid in pids.items() if name != "up"}
    assert set(found) >= {"host", "runtime", "web"}
    assert [name for name, one in found.items() if "SOME_VENDORS_KEY" in one] == ["host"]
    assert not [name for name, one in found.items() if "SOMEBODY_ELSES_KEY" in one]


async def test_an_address_that_is_none_is_told_once(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "PORTWAY_HOST": "garbage",
        "PORTWAY_TOKEN": "x",
        "XDG_STATE_HOME": str(tmp_path),
    }
    outcome = await command(environment, "status")
    assert outcome.code == 2
    lines = [line for line in outcome.err.splitlines() if "garbage" in line]
    assert len(lines) == 1, outcome.err
