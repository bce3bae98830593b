"""Runtime, box or web chat are killed with SIGKILL: they are back without a person, and leave nothing behind."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, started

SECONDS = 60


async def works(stack: Stack, text: str) -> bool:
    outcome = await stack.portway("send", f"run: echo {text}", "--wait", "--json")
    return outcome.code == 0 and text in str(json.loads(outcome.out)["text"])


@pytest.mark.parametrize("part", ["runtime", "box", "web"])
async def test_a_killed_part_is_back_without_a_person(tmp_path: Path, part: str) -> None:
    async with started(tmp_path) as stack:
        assert await works(stack, "before")
        await stack.restarted(part, await stack.kill(part))
        async with asyncio.timeout(SECONDS):
            while not await works(stack, "afterwards"):
                pass
