"""What the pages of docs/ tell people to type works as it is written.

A block of `sh` after a line `<!-- run -->` is run, in the order of the page, on an installation of its own, with $HOST,
$BOX, $TOKEN and $DATA set and `portway` and `grpcurl` on the path. `<!-- run: WORDS -->` also wants WORDS, a regular
expression, in what it prints; `<!-- run fails: WORDS -->` wants it to fail and to say so.
"""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import started
from tests.sandbox import needs_sandbox

DOCS = Path(__file__).parents[2] / "docs"
SHIM = Path(__file__).parent / "programs" / "grpcurl.py"
BLOCK = re.compile(
    r"^<!-- run(?: grpcurl)?(?P<fails> fails)?(?:: (?P<words>[^\n]*?))? -->\n```sh\n(?P<script>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
# It has clients of its own: test_recipes.py.
PAGES = sorted(
    page.name for page in DOCS.glob("*.md") if page.name != "grpcurl.md" and BLOCK.search(page.read_text("utf-8"))
)


async def run(script: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode("utf-8", "replace")


async def follow(page: str, folder: Path, programs: Path) -> None:
    # What a page writes "here" is written in a folder that goes with the test.
    here = new(folder.with_name(f"{folder.name}-here"))
    async with started(folder) as stack:
        environment = stack.environment() | {
            "HOST": stack.host_address,
            "BOX": stack.box_address,
            "TOKEN": stack.token,
            "DATA": str(stack.data),
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for block in BLOCK.finditer((DOCS / page).read_text("utf-8")):
            code, said = await run(block["script"], environment, here)
            assert bool(code) == bool(block["fails"]), f"{page}: {block['script']}\nended with {code}:\n{said}"
            assert re.search(block["words"] or "", said), f"{page}: {block['script']}\nprinted:\n{said}"


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def stand_in(folder: Path) -> Path:
    program = folder / "grpcurl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {SHIM} "$@"\n')
    program.chmod(0o755)
    return folder


@needs_sandbox
@pytest.mark.parametrize("page", PAGES)
async def test_a_page_can_be_followed(page: str, tmp_path: Path) -> None:
    await follow(page, new(tmp_path / "stack"), stand_in(new(tmp_path / "programs")))


@pytest.mark.heavy
@needs_sandbox
async def test_every_page_can_be_followed_with_the_real_grpcurl(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, so grpcurl cannot be built")
    folder = tmp_path / "bin"
    building = await asyncio.create_subprocess_exec(go, "install", GRPCURL, env=os.environ | {"GOBIN": str(folder)})
    assert await building.wait() == 0, "grpcurl could not be built"
    assert PAGES
    for page in PAGES:
        await follow(page, new(tmp_path / page), folder)
