"""The plugin runtime alone, as a process of its own, with plugins that a benchmark writes and runs as its host."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.channel import PortwayChannel
from portway.rpc.tokens import mint_token
from portway.v1 import run_agent_pb2 as pb

START_SECONDS = 30.0
_RUN_AGENT = "/portway.v1.RuntimeService/RunAgent"
_MANIFEST = "author: bench\nname: {name}\nversion: 1.0.0\nlabel: {name}\nexecute: {execute}\n"
_RUNNER = "kind: AgentRunner\nname: default\nlabel: A runner\n{code}"
_TOOL = "kind: Tool\nname: tool\ndescription: Answers at once.\nidempotency: read_only\nclass: code:Echo\n"
_CODE = """
from portway.runtime.sdk import AgentRunner, RunCompleted, TextDelta, Tool


class Runner(AgentRunner):
    async def run(self, ctx, host):
        for number in range(int(ctx.config.get("deltas", 0))):
            yield TextDelta(f"{number:07} ", "text")
        yield RunCompleted()


class Echo(Tool):
    async def call(self, arguments, call):
        return arguments["text"]
"""


@dataclass(frozen=True, slots=True)
class Alone:
    address: str
    token: str
    pid: int


def write_plugin(folder: Path, name: str, program: Path | None = None, packages: Sequence[str] = ()) -> str:
    """A plugin that streams as many deltas as the configuration says, and its runner's id. `program` is a worker's
    source that is started as an executable; with `packages` it gets an environment of its own."""
    plugin = folder / name
    (plugin / "components").mkdir(parents=True)
    execute = "{command: [./run]}" if program else f"{{requirements: [{', '.join(packages)}]}}"
    (plugin / "manifest.yaml").write_text(_MANIFEST.format(name=name, execute=execute))
    code = "" if program else "class: code:Runner\n"
    (plugin / "components" / "runner.yaml").write_text(_RUNNER.format(code=code))
    if program is not None:
        (plugin / "run").write_text(f"#!/bin/sh\nexec {sys.executable} {program}\n")
        (plugin / "run").chmod(0o755)
    else:
        (plugin / "components" / "tool.yaml").write_text(_TOOL)
        (plugin / "code.py").write_text(_CODE)
    return f"plugin:bench/{name}/default"


@contextmanager
def runtime_with(plugins: Path) -> Iterator[Alone]:
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
        folder = Path(name)
        token = mint_token("service")
        entry = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": "admin", "workspace_id": "*"}
        credentials, ready = folder / "credentials", folder / "ready"
        credentials.touch(mode=0o600)
        credentials.write_text(json.dumps({"tokens": [entry]}))
        command = [sys.executable, "-m", "portway.runtime", "--data", str(folder / "data"), "--plugins", str(plugins)]
        command += ["--credentials", str(credentials), "--ready-file", str(ready)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield Alone(_address(process, ready), token.text, process.pid)
            finally:
                process.terminate()
                process.wait()


def _address(process: subprocess.Popen[bytes], ready: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError("the runtime did not start")
        time.sleep(0.01)
    return str(json.loads(ready.read_text())["address"])


async def run(channel: PortwayChannel, runner_id: str, deltas: int = 0) -> int:
    """Runs to the end; the number of results. Raises where they are not in order or the run failed."""
    call: Any = channel.stream_stream(_RUN_AGENT)()
    start = pb.RunStart(runner_id=runner_id)
    start.context.run_id = "run_bench"
    start.context.config["deltas"] = deltas
    start.context.input.text = "empty"
    await call.write(pb.RunAgentRequest(frames=[pb.RunInputFrame(start=start)]).SerializeToString())
    last = pb.RunOutputFrame()
    async for raw in call:
        for frame in pb.RunAgentResponse.FromString(raw).frames:
            if frame.result.sequence != last.result.sequence + 1:
                raise AssertionError(f"result {frame.result.sequence} came after {last.result.sequence}")
            last = frame
    if not last.result.HasField("run_completed"):
        raise AssertionError(f"the run ended with {last.result}")
    return int(last.result.sequence)
