"""What only a program without the SDK can get wrong, and what becomes of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import PortwayError, Reason
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from tests.contracts.runner.conftest import RAW, RAW_SCRIPT, write_program
from tests.runtime.host_end import HostEnd

RAW_ID = "plugin:test/raw/default"
WORKER = (RAW / "worker.py").read_text()


@asynccontextmanager
async def _runtime(folder: Path, worker: str = WORKER, script: str = RAW_SCRIPT) -> AsyncIterator[HostEnd]:
    """A live runtime with this program as its only plugin."""
    write_program(folder, worker, script)
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
    config = RuntimeConfig(data=folder / "data", plugins=(folder / "raw",), grace_seconds=1.0, start_seconds=2.0)
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        yield HostEnd(channel)


async def _failure(host: HostEnd) -> PortwayError:
    async with host.run("ok", RAW_ID) as run:
        return await run.failure()


async def test_a_run_without_a_terminal_result_ends_without_one(tmp_path: Path) -> None:
    """The host makes a failure of it; the runtime does not look into the frames."""
    async with _runtime(tmp_path) as host:
        run = await host.finished("no_terminal", RAW_ID)
    assert run.kinds == ["message_delta"]


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("protocol_version=1", "protocol_version=2", "speaks version 2"),
        ('name="default")]', 'name="other")]', "does not offer AgentRunner default"),
        ('"Bearer "', '"Bearer x"', "refused the handshake: the cookie is wrong"),
        ("await server.start()", "raise SystemExit(3)", "ended with code 3 before it answered"),
        ("await server.start()", "await asyncio.Event().wait()", "did not answer the handshake within 2 seconds"),
    ],
)
async def test_a_program_that_cannot_shake_hands_is_not_used_and_the_reason_is_told(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    assert old in WORKER
    async with _runtime(tmp_path, WORKER.replace(old, new)) as host:
        failure = await _failure(host)
    assert failure.reason == Reason.RUNNER_UNAVAILABLE
    assert part in failure.message


async def test_a_program_that_does_not_exist_is_told_by_name(tmp_path: Path) -> None:
    async with _runtime(tmp_path, script="#!/no/such/interpreter\n") as host:
        failure = await _failure(host)
    assert failure.reason == Reason.RUNNER_UNAVAILABLE
    assert "cannot execute ./run" in failure.message


async def test_a_program_that_fails_a_run_by_its_status_is_told_as_it_was(tmp_path: Path) -> None:
    worker = WORKER.replace('    if what == "ok":\n', '    if what == "ok":\n        raise RuntimeError("inside")\n', 1)
    assert worker != WORKER
    async with _runtime(tmp_path, worker) as host:
        failure = await _failure(host)
        assert failure.reason == Reason.INTERNAL
        assert "test/raw" in failure.message
        assert (await host.finished("empty", RAW_ID)).kinds == ["run_completed"]
