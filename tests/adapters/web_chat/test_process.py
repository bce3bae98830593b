"""The web chat as a process of its own."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from portway.v1 import adapter_pb2
from tests.fakes.chat_host import ChatHost
from tests.postgres import free_port
from tests.waiting import until

CONFIGURATION = 78
REPLACED = 3


def write_token(host: ChatHost, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "token"
    path.write_text(host.token, encoding="ascii")
    return path


def visible_to_others(pid: int) -> bytes:
    """What the machine shows of a process."""
    folder = Path(f"/proc/{pid}")
    return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()


@asynccontextmanager
async def process(
    host: ChatHost, folder: Path, *more: str, listen: str = "127.0.0.1:0"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, with what it writes on its error output to be read. It is gone when the block ends."""
    token = write_token(host, folder)
    ready_file = folder / "ready.json"
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway.adapters.web_chat", "--host", host.address, "--token-file", str(token)),
        *("--data", str(folder / "data"), "--listen", listen, "--ready-file", str(ready_file), *more),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PORTWAY")},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def ready(folder: Path) -> dict[str, object]:
    path = folder / "ready.json"
    await until(path.exists)
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


async def ended(running: asyncio.subprocess.Process) -> tuple[int, str]:
    _, errors = await asyncio.wait_for(running.communicate(), 60)
    assert running.returncode is not None
    return running.returncode, errors.decode()


async def test_it_says_where_it_serves_to_this_user_alone_and_ends_when_asked(host: ChatHost, tmp_path: Path) -> None:
    async with process(host, tmp_path) as running:
        said = await ready(tmp_path)
        assert (tmp_path / "ready.json").stat().st_mode & 0o777 == 0o600
        assert said["pid"] == running.pid
        async with httpx.AsyncClient(follow_redirects=True) as browser:
            page = await browser.get(str(said["address"]))
        assert 'data-testid="input"' in page.text
        await until(lambda: host.connections.current is not None)
        key = str(said["address"]).partition("key=")[2]
        shown = visible_to_others(running.pid)
        assert key.encode() not in shown and host.token.encode() not in shown
        running.send_signal(signal.SIGTERM)
        code, errors = await ended(running)
    assert code == 0
    assert key not in errors and host.token not in errors


async def test_the_same_key_and_sessions_hold_after_a_restart(host: ChatHost, tmp_path: Path) -> None:
    async with httpx.AsyncClient(follow_redirects=True) as browser:
        port = free_port()
        async with process(host, tmp_path, listen=f"127.0.0.1:{port}") as running:
            first = str((await ready(tmp_path))["address"])
            assert (await browser.get(first)).status_code == 200
            running.send_signal(signal.SIGKILL)
            await running.wait()
        (tmp_path / "ready.json").unlink()
        async with process(host, tmp_path, listen=f"127.0.0.1:{port}"):
            again = str((await ready(tmp_path))["address"])
            assert again == first
            assert (await browser.get(f"http://127.0.0.1:{port}/api/session")).status_code == 200


async def test_a_port_in_use_is_named_with_what_to_do(host: ChatHost, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with process(host, tmp_path, listen=f"127.0.0.1:{port}") as running:
            code, errors = await ended(running)
    assert code == CONFIGURATION
    assert str(port) in errors and "--listen" in errors


async def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(host: ChatHost, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    async with process(host, tmp_path, "--data", str(tmp_path / "file" / "data")) as running:
        code, errors = await ended(running)
    assert code == CONFIGURATION
    assert "web-key" in errors and "--data" in errors


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("web: {lisen: '127.0.0.1:1'}", "listen"),
        ("web: {max_connections: many}", "max_connections"),
        ("web: {origins: ['chat.example.org']}", "https://chat.example.org"),
        ("web: [", "YAML"),
    ],
)
async def test_a_mistake_in_the_configuration_is_named(host: ChatHost, tmp_path: Path, content: str, said: str) -> None:
    config = tmp_path / "portway.yaml"
    config.write_text(content, encoding="utf-8")
    async with process(host, tmp_path, "--config", str(config)) as running:
        code, errors = await ended(running)
    assert code == CONFIGURATION
    assert said in errors and "Traceback" not in errors


async def test_it_does_not_listen_to_the_network_without_knowing_its_own_name(host: ChatHost, tmp_path: Path) -> None:
    async with process(host, tmp_path, listen="0.0.0.0:0") as running:
        code, errors = await ended(running)
    assert code == CONFIGURATION
    assert "origins" in errors


async def test_a_second_process_with_the_same_id_takes_over_and_the_first_says_so(
    host: ChatHost, tmp_path: Path
) -> None:
    async with process(host, tmp_path / "first") as first:
        await until(lambda: len(host.connections.all) == 1)
        async with process(host, tmp_path / "second") as second:
            code, errors = await ended(first)
            assert second.returncode is None
    assert code == REPLACED
    assert "took over" in errors


async def test_it_serves_before_the_host_is_there_and_finds_it_by_its_ready_file(
    host: ChatHost, tmp_path: Path
) -> None:
    host_file = tmp_path / "host.json"
    async with process(host, tmp_path, "--host", str(host_file)):
        await ready(tmp_path)
        assert host.connections.all == []
        host_file.write_text(json.dumps({"address": host.address, "pid": 1}), encoding="utf-8")
        await until(lambda: len(host.connections.all) == 1)


async def test_a_token_that_is_not_taken_is_tried_again_until_it_is(host: ChatHost, tmp_path: Path) -> None:
    async with process(host, tmp_path) as running:
        await until(lambda: len(host.connections.all) == 1)
        (tmp_path / "token").write_text("pw_adapter_wrong", encoding="ascii")
        host.cut()
        assert running.stderr is not None
        async with asyncio.timeout(30):
            async for line in running.stderr:
                if b"TOKEN_INVALID" in line:
                    break
        assert len(host.connections.all) == 1
        (tmp_path / "token").write_text(host.token, encoding="ascii")
        await until(lambda: len(host.connections.all) == 2)
        assert isinstance(host.connections.all[1].hello, adapter_pb2.AdapterHello)
