"""A plugin that means no good: whatever its process sends or does, the runtime serves the next run."""

import asyncio
import sys
from pathlib import Path

import grpc

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from tests.contracts.runner.conftest import RAW, write_program
from tests.fuzz.attack import DEADLINE, seconds, seed
from tests.fuzz.machine import descriptors
from tests.rpc.logs import Logs
from tests.runtime.host_end import HostEnd
from tests.waiting import until

USUAL = 2.0
RUNNER = "plugin:test/raw/default"
ROOT = Path(__file__).resolve().parents[2]
ATTACK = """
    elif what == "attack":
        from random import Random
        from portway.v1.run_agent_pb2 import RunOutputFrame
        from tests.fuzz.known import Known
        from tests.fuzz.messages import Messages
        from tests.fuzz.wire_bytes import mutated
        random = Random(int(rest))
        messages = Messages(random, Known())
        for _ in range(random.randint(0, 12)):
            frames = [messages.make(RunOutputFrame.DESCRIPTOR) for _ in range(random.randint(0, 3))]
            raw = worker_pb2.WorkerServiceRunAgentResponse(frames=frames).SerializeToString()
            await run.context.write(mutated(random, raw) if random.random() < 0.5 else raw)
        match random.randint(0, 4):
            case 0:
                raise RuntimeError("on purpose")
            case 1:
                await run.context.abort(random.choice(list(grpc.StatusCode)[1:]), "\\u202e no reason")
            case 2:
                await run.send(run.done())
"""


def hostile(worker: str) -> str:
    """The good program with one more thing that it does."""
    last = "    else:\n        await wait(run, what)"
    serialising = "response_serializer=lambda one: one.SerializeToString(),"
    either = "response_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),"
    assert last in worker and serialising in worker
    return worker.replace(last, ATTACK[1:] + last).replace(serialising, either)


async def test_nothing_that_a_plugin_sends_breaks_the_runtime(tmp_path: Path) -> None:
    number, logs = seed(), Logs()
    print(f"PORTWAY_FUZZ_SEED={number}")
    script = f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} worker.py\n"
    write_program(tmp_path, hostile((RAW / "worker.py").read_text()), script)
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
    config = RuntimeConfig(data=tmp_path / "data", plugins=(tmp_path / "raw",), grace_seconds=1.0)
    ends: dict[str, int] = {}
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        host = HostEnd(channel)
        await host.finished("ok first", RUNNER)
        before, end = descriptors(), asyncio.get_running_loop().time() + seconds(USUAL)
        while asyncio.get_running_loop().time() < end:
            number += 1
            async with host.run(f"attack {number}", RUNNER) as run, asyncio.timeout(DEADLINE):
                try:
                    while await run.call.read() is not grpc.aio.EOF:
                        pass
                except grpc.aio.AioRpcError:
                    pass
                code = await run.call.code()
            ends[code.name] = ends.get(code.name, 0) + 1
            assert code is not grpc.StatusCode.UNKNOWN, f"PORTWAY_FUZZ_SEED={number}"
        run = await host.finished("ok last", RUNNER)
        assert run.kinds[-1] == "run_completed"
        await until(lambda: descriptors() <= before + 8)
    assert ends.get("OK", 0) > 0 and len(ends) > 1, ends
    assert "bug in a handler" not in logs.text()
    print(ends)
