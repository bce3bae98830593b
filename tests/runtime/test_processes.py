"""The runtime as a process: it leaves nobody behind, however it or one of its children ends."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from portway.rpc.channel import open_channel
from portway.rpc.configuration import EXIT_CODE
from portway.rpc.tokens import MintedToken, mint_token
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc, worker_pb2, worker_pb2_grpc
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.runtime.host_end import HostEnd
from tests.waiting import until


class RuntimeProcess:
    """`python -m portway.runtime` with a credentials file and a ready file."""

    def __init__(self, folder: Path) -> None:
        self.token: MintedToken = mint_token("service")
        self.ready_file = folder / "ready.json"
        self.credentials = folder / "credentials.json"
        entry = {
            "id": self.token.token_id,
            "sha256": self.token.secret_hash.hex(),
            "role": "admin",
            "workspace_id": "*",
        }
        self.credentials.write_text(json.dumps({"tokens": [entry]}))
        self.credentials.chmod(0o600)
        self._data = folder / "data"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        arguments = ["--data", str(self._data), "--credentials", str(self.credentials)]
        arguments += ["--ready-file", str(self.ready_file), "--plugins", str(PLUGIN_FOLDERS), *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "portway.runtime", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        return self.process

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["tuple[HostEnd, runtime_pb2_grpc.RuntimeServiceAsyncStub]"]:
        process = self.process or self.start()
        await until(lambda: self.ready_file.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        address = json.loads(self.ready_file.read_text())["address"]
        async with open_channel(address, token=self.token.text) as channel:
            yield HostEnd(channel), runtime_pb2_grpc.RuntimeServiceStub(channel)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RuntimeProcess]:
    runtime = RuntimeProcess(tmp_path)
    yield runtime
    if runtime.process is not None:
        runtime.process.kill()
        runtime.process.communicate()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def _plugin(stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub") -> pb.Plugin:
    return (await stub.GetPlugin(pb.GetPluginRequest(plugin_id="test/behave"))).plugin


def _private_folder(pid: int) -> Path:
    """Of the plugin with this process: where its socket lies."""
    for line in Path("/proc/net/unix").read_text().splitlines():
        path = line.split()[-1]
        if path.endswith("/socket") and "/portway-" in path and Path(path).exists() and _is_of(path, pid):
            return Path(path).parent
    raise AssertionError("the plugin has no socket")


def _is_of(path: str, pid: int) -> bool:
    inodes = {line.split()[-2] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(path)}
    links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return any(f"socket:[{inode}]" in links for inode in inodes)


async def test_a_killed_runtime_leaves_no_process_and_no_folder_behind(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub), host.run("orphan") as run:
        told = await run.until("progress")
        children = [int(pid) for pid in told.progress.text.split()]
        plugin = (await _plugin(stub)).pid
        fork_server = _parent(plugin)
        folder = _private_folder(plugin)
        assert all(_alive(pid) for pid in (*children, plugin, fork_server))
        assert process.process is not None
        process.process.kill()
        await until(lambda: not any(_alive(pid) for pid in (*children, plugin, fork_server)))
        await until(lambda: not folder.parent.exists())
        run.call.cancel()


async def test_a_killed_fork_server_takes_the_plugins_along_and_the_next_run_works(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub):
        async with host.run("hang") as run:
            await run.until("message_delta")
            plugin = (await _plugin(stub)).pid
            os.kill(_parent(plugin), signal.SIGKILL)
            assert (await run.failure()).reason == "RUNNER_CRASHED"
        await until(lambda: not _alive(plugin))
        assert (await host.finished("ok back")).message == "back"


async def test_what_a_crashed_plugin_started_goes_with_it(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub):
        async with host.run("orphan") as run:
            children = [int(pid) for pid in (await run.until("progress")).progress.text.split()]
            os.kill((await _plugin(stub)).pid, signal.SIGKILL)
            assert (await run.failure()).reason == "RUNNER_CRASHED"
        await until(lambda: not any(_alive(pid) for pid in children))
        assert (await host.finished("ok back")).message == "back"


async def test_a_plugin_that_is_stopped_by_a_signal_is_recycled_by_force(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub):
        async with host.run("hang") as run:
            await run.until("message_delta")
            os.kill((await _plugin(stub)).pid, signal.SIGSTOP)
            await stub.RecyclePlugin(pb.RecyclePluginRequest(plugin_id="test/behave"))
            assert (await run.failure()).reason == "RUNNER_CRASHED"
        assert (await host.finished("ok back")).message == "back"


async def test_sigterm_lets_a_run_finish_and_then_ends_everything(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub), host.run("steer") as run:
        await run.until("message_delta")
        plugin = (await _plugin(stub)).pid
        assert process.process is not None
        process.process.terminate()
        run.call.cancel()
        await asyncio.to_thread(process.process.wait)
        assert process.process.returncode == 0
        await until(lambda: not _alive(plugin))


async def test_the_socket_is_the_owners_alone_and_the_cookie_is_gone(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub):
        await host.finished("ok")
        folder = _private_folder((await _plugin(stub)).pid)
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        # The plugin has read its cookie: nobody else finds it.
        assert sorted(one.name for one in folder.iterdir()) == ["socket", "tmp"]


@pytest.mark.parametrize("cookie", ["", "Bearer", "Bearer wrong", "Bearer " + "0" * 64])
async def test_a_worker_answers_only_who_knows_its_cookie(process: RuntimeProcess, cookie: str) -> None:
    async with process.serving() as (host, stub):
        await host.finished("ok")
        folder = _private_folder((await _plugin(stub)).pid)
        metadata = [("authorization", cookie)] if cookie else []
        async with grpc.aio.insecure_channel(f"unix:{folder}/socket") as channel:
            worker = worker_pb2_grpc.WorkerServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await worker.Handshake(worker_pb2.HandshakeRequest(protocol_versions=[1]), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await worker.RunAgent(metadata=metadata).read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await host.finished("ok fine")).message == "fine"


async def test_a_runtime_ends_with_its_supervisor(tmp_path: Path) -> None:
    runtime = RuntimeProcess(tmp_path)
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], env={**os.environ, 'PORTWAY_SUPERVISOR_PID': str(os.getpid())})\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "portway.runtime", "--credentials", str(runtime.credentials)]
    command += ["--data", str(tmp_path / "data"), "--ready-file", str(runtime.ready_file)]
    supervisor = subprocess.Popen([sys.executable, "-c", code, *command])  # noqa: ASYNC220 - the test has no other work
    try:
        await until(runtime.ready_file.exists)
        pid = json.loads(runtime.ready_file.read_text())["pid"]
    finally:
        supervisor.kill()
        supervisor.wait()
    await until(lambda: not _alive(pid))
    assert supervisor.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "part"),
    [
        ((), {"PORTWAY__RUNTIME__MAX_RUN": "5"}, EXIT_CODE, "did you mean `max_runs`?"),
        (("--credentials", "/nowhere"), {}, EXIT_CODE, "cannot be read"),
        (("--listen", "256.1.1.1:0"), {}, 1, "cannot listen"),
    ],
)
def test_settings_that_cannot_be_used_end_the_start_with_a_reason(
    process: RuntimeProcess, arguments: tuple[str, ...], environment: dict[str, str], code: int, part: str
) -> None:
    started = process.start(*arguments, **environment)
    _, errors = started.communicate(timeout=120)
    assert started.returncode == code
    assert part in errors
    assert "Traceback" not in errors


def test_a_port_in_use_is_told(process: RuntimeProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        started = process.start("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        _, errors = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "the port is in use" in errors


async def test_a_second_runtime_on_the_same_folder_is_refused(process: RuntimeProcess) -> None:
    async with process.serving():
        first = process.process
        _, errors = process.start("--ready-file", str(process.ready_file) + "2").communicate(timeout=120)
        process.process, second = first, process.process
        assert second is not None
        assert second.returncode == 1
        assert "is in use by another plugin runtime" in errors


def test_a_data_folder_that_cannot_be_written_is_told(process: RuntimeProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = process.start("--data", str(tmp_path / "file" / "data"))
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "cannot be used (Not a directory" in errors
    assert "Traceback" not in errors


def test_credentials_that_others_may_read_are_refused(process: RuntimeProcess) -> None:
    process.credentials.chmod(0o644)
    started = process.start()
    _, errors = started.communicate(timeout=120)
    assert started.returncode == EXIT_CODE
    assert "chmod 600" in errors
