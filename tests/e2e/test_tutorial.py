"""docs/tutorial-runner.md, followed step by step from an empty folder, as it is written.

A block of `sh` after `<!-- step: WORDS -->` is run there and must print WORDS, a regular expression. The step that
starts Portway is started with the page's own configuration and ended at the end.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.e2e.stack import started

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial-runner.md").read_text("utf-8")
STEP = re.compile(r"^<!-- step(?:: (?P<words>[^\n]*))? -->\n```sh\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = re.compile(r"^```yaml\n# portway\.yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START = "portway up --config portway.yaml\n"
SECONDS = 120


async def follow(steps: list[re.Match[str]], folder: Path, environment: dict[str, str]) -> None:
    for step in steps:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", step["script"]),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        said = out.decode("utf-8", "replace")
        assert process.returncode == 0, f"{step['script']}\nended with {process.returncode}:\n{said}"
        assert re.search(step["words"] or "", said), f"{step['script']}\nprinted:\n{said}"


async def test_the_tutorial_leads_from_an_empty_folder_to_an_answer(tmp_path: Path) -> None:
    steps = list(STEP.finditer(PAGE))
    (start,) = [index for index, step in enumerate(steps) if step["script"] == START]
    config = CONFIG.search(PAGE)
    assert config is not None
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "portway").write_text(f'#!/bin/sh\nexec {sys.executable} -m portway.clients.cli.main "$@"\n')
    (programs / "portway").chmod(0o755)
    folder = tmp_path / "author"
    folder.mkdir()
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    await follow(steps[:start], folder, environment)
    text = config[1].replace("[greeter]", f"[{folder / 'greeter'}]")
    async with started(tmp_path, config=text) as stack:
        await follow(steps[start + 1 :], folder, stack.environment() | {"PATH": environment["PATH"]})
