"""The recipes of docs/grpcurl.md work as they are written, with clients that know nothing but reflection."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, started
from tests.sandbox import needs_sandbox

PAGE = Path(__file__).parents[2] / "docs" / "grpcurl.md"
RECIPE = re.compile(r"^<!-- run(?P<tool> grpcurl)? -->\n```sh\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL)
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
EXPECTED = {
    "list-methods": "portway.v1.RunService/WatchRun",
    "GetStatus": "host",
    "SendMessage": "hi from the sandbox",
    "WatchRun": "WatchRun|hello",
    "ListMessages": "recipes",
    "ExplainMessage": "binding",
    "ExecOnce": "NDIKMTAwMAo=",
    "GetRun": "run_none",
}


def recipes(tool: str) -> list[str]:
    marked = RECIPE.finditer(PAGE.read_text(encoding="utf-8"))
    found = [match["script"] for match in marked if (match["tool"] or " buf")[1:] == tool]
    assert found, f"{PAGE} holds no recipe for {tool}"
    return found


async def run(script: str, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    text = out.decode("utf-8", "replace")
    assert process.returncode == 0, f"{script}\nended with {process.returncode}:\n{text}"
    return text


async def check_all(stack: Stack, tool: str, path: str) -> None:
    environment = stack.environment() | {
        "HOST": stack.host_address,
        "BOX": stack.box_address,
        "TOKEN": stack.token,
        "PATH": path,
    }
    for script in recipes(tool):
        said = await run(script, environment)
        for call, expected in EXPECTED.items():
            if re.search(rf"(/|--| describe .*){call}\b", script):
                assert re.search(expected, said), (script, said)


@needs_sandbox
async def test_buf_curl_knows_everything_by_reflection(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        await check_all(stack, "buf", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.heavy
@needs_sandbox
async def test_grpcurl_knows_everything_by_reflection(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, so grpcurl cannot be built")
    folder = tmp_path / "bin"
    building = await asyncio.create_subprocess_exec(go, "install", GRPCURL, env=os.environ | {"GOBIN": str(folder)})
    assert await building.wait() == 0, "grpcurl could not be built"
    async with started(tmp_path) as stack:
        await check_all(stack, "grpcurl", f"{folder}:{os.environ['PATH']}")
