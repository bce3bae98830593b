"""The session bridge between a runner and a desk: two of them, strangers at the port, answers that are none."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from portway.runtime.harness.allowances import SESSION_BRIDGES
from portway.runtime.official.session_bridge.proof import proof_of
from portway.runtime.official.session_bridge.runner import SessionBridge
from portway.runtime.sdk import RunContext, RunInput
from portway.runtime.sdk.testing.drive import Outcome, run_runner
from tests.postgres import free_port
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Desk:
    """A queue that runs."""

    port: int
    folder: Path
    process: asyncio.subprocess.Process

    async def arrived(self, run_id: str) -> dict[str, object]:
        path = self.folder / "inbox" / f"{run_id}.json"
        await until(path.exists)
        message: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return message

    def answer(self, run_id: str, content: bytes) -> None:
        unfinished = self.folder / "unfinished"
        unfinished.write_bytes(content)
        unfinished.replace(self.folder / "outbox" / f"{run_id}.md")


async def begun(port: int, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway.runtime.official.session_bridge.desk_queue"),
        *("--port", str(port), "--folder", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    port = free_port()
    process = await begun(port, folder)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                assert process.returncode is None
                try:
                    return (await client.post(f"http://127.0.0.1:{port}/messages")).status_code == 401
                except httpx.TransportError:
                    return False

            while not await answers():
                pass
        yield Desk(port, folder, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def allow(environment: pytest.MonkeyPatch, **bridges: tuple[int, Path]) -> None:
    """What the operator says, where the plugin reads it."""
    told = {name: [port, str(folder)] for name, (port, folder) in bridges.items()}
    environment.setenv(SESSION_BRIDGES, json.dumps(told))


def running(run_id: str, bridge: str = "default", seconds: float = 60.0) -> "asyncio.Task[Outcome]":
    ctx = RunContext(run_id=run_id, input=RunInput("a question"), config={"bridge": bridge, "timeout_seconds": seconds})
    return asyncio.create_task(run_runner(SessionBridge, context=ctx), name=run_id)


def failed(outcome: Outcome) -> tuple[str, str]:
    error = outcome.terminal.run_failed.error
    return error.code, error.message


async def test_two_desks_get_what_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path / "a") as first, desk(tmp_path / "b") as second:
        allow(monkeypatch, default=(first.port, first.folder), other=(second.port, second.folder))
        one, two = running("run_1"), running("run_2", "other")
        assert (await first.arrived("run_1"))["text"] == (await second.arrived("run_2"))["text"] == "a question"
        assert [path.name for path in (first.folder / "inbox").glob("[!.]*")] == ["run_1.json"]
        # Answers at the wrong desk, and for runs that nobody knows, answer nothing.
        first.answer("run_2", b"wrong desk")
        first.answer("run_9", b"nobody asked")
        second.answer("run_2", b"right desk")
        first.answer("run_1", b"mine \xff\0")
        assert (await two).messages == ["right desk"]
        assert (await one).messages == ["mine \ufffd\ufffd"]
        assert not [*(second.folder / "outbox").iterdir(), *(second.folder / "inbox").iterdir()]
        # A later run under the same name does not find what came too late for another one: it is its own by then.
        assert sorted(path.name for path in (first.folder / "outbox").iterdir()) == ["run_2.md", "run_9.md"]


async def test_what_came_too_late_is_swept_with_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path / "a") as here:
        allow(monkeypatch, default=(here.port, here.folder))
        assert failed(await running("run_1", seconds=0.2))[0] == "harness.timeout"
        here.answer("run_1", b"too late")
        late = here.folder / "outbox" / "run_1.md"
        os.utime(late, (1, 1))
        (here.folder / "outbox" / "a-folder").mkdir()
        os.utime(here.folder / "outbox" / "a-folder", (1, 1))
        waiting = running("run_2")
        await here.arrived("run_2")
        assert not late.exists()
        here.answer("run_2", b"in time")
        assert (await waiting).messages == ["in time"]


async def test_answers_that_are_none_fail_their_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for anybody")
    async with desk(tmp_path / "a") as here:
        allow(monkeypatch, default=(here.port, here.folder))
        outbox = here.folder / "outbox"
        answers: dict[str, Callable[[Path], object]] = {
            "link": lambda path: path.symlink_to(secret),
            "folder": lambda path: path.mkdir(),
            "pipe": os.mkfifo,
            "huge": lambda path: here.answer(path.stem, b"x" * (1024 * 1024)),
            "empty": lambda path: here.answer(path.stem, b" \n"),
        }
        for kind, put in answers.items():
            waiting = running(kind)
            await here.arrived(kind)
            put(outbox / f"{kind}.md")
            code, message = failed(await waiting)
            assert code == ("harness.empty_output" if kind == "empty" else "harness.program_error"), message
            assert "not for anybody" not in message
        well = running("run_2")
        await here.arrived("run_2")
        here.answer("run_2", b"still well")
        assert (await well).messages == ["still well"]
        gone = running("run_3")
        await here.arrived("run_3")
        here.process.kill()
        assert failed(await gone)[0] == "harness.lost"


@asynccontextmanager
async def stranger(port: int, answer: bytes) -> AsyncIterator[bytearray]:
    """Another program at the port: it keeps what it is told, and says the same to everything."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        heard.extend(await reader.read(100_000))
        writer.write(answer)
        try:
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield heard
    finally:
        server.close()
        await server.wait_closed()


BODIES = {
    "not found": b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    "a wrong proof": b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"proof": "no"}',
    "no JSON": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[[[",
    "much": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000,
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("said", BODIES)
async def test_a_stranger_at_the_port_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    port, folder = free_port(), tmp_path / "a"
    folder.mkdir()
    (folder / "token").write_text("the-token-of-the-folder")
    allow(monkeypatch, default=(port, folder))
    async with stranger(port, BODIES[said]) as heard:
        code, message = failed(await running("run_1"))
    assert code in ("harness.program_error", "harness.lost"), message
    assert f"port {port}" in message or f":{port}" in message
    assert b"nonce" in heard and b"the-token-of-the-folder" not in heard and b"a question" not in heard


async def test_a_second_queue_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(desk(tmp_path / "a"))
        same_port = await begun(here.port, tmp_path / "b")
        same_folder = await begun(free_port(), here.folder)
        said = [(await one.communicate())[0].decode() for one in (same_port, same_folder)]
        assert [one.returncode for one in (same_port, same_folder)] == [1, 1]
        assert f"port {here.port} cannot be had" in said[0] and "runtime.session_bridges" in said[0]
        assert "another queue serves" in said[1]


NO_MESSAGES = [
    (b"[", 413),
    (b"[" * 100_000, 413),
    (b"{}", 400),
    (b'{"id": "../../x", "wait_seconds": 1}', 400),
    (b'{"id": "a", "wait_seconds": NaN}', 400),
    (b'{"id": {}, "wait_seconds": 1}', 400),
    (b"x" * (3 * 1024 * 1024), 413),
]


async def test_messages_that_are_none_are_refused(tmp_path: Path) -> None:
    async with desk(tmp_path / "a") as here, httpx.AsyncClient(trust_env=False) as client:
        token = (here.folder / "token").read_text().strip()
        url = f"http://127.0.0.1:{here.port}"
        for body, status in NO_MESSAGES:
            answer = await client.post(f"{url}/messages", content=body, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status, body[:50]
        assert (await client.post(f"{url}/hello", json={"nonce": "x"})).status_code == 400
        proof = (await client.post(f"{url}/hello", json={"nonce": "0" * 64})).json()["proof"]
        assert proof == proof_of(token, "0" * 64) and token not in proof
