"""A run's models inside its session: programs there have no network and no key but the run's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import BoxPolicy
from portway.v1 import process_pb2, run_agent_pb2
from portway.v1 import run_pull_pb2 as pb
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.sandbox import why_no_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.spending.asking import spending
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until, until_told

HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
PROGRAM = """
import http.client, json, socket, sys
kind, path, token = json.loads(sys.argv[1])
connection = http.client.HTTPConnection("127.0.0.1", kind if isinstance(kind, int) else 1)
if not isinstance(kind, int):
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(kind)
headers = {"content-type": "application/json"} | ({"authorization": "Bearer " + token} if token else {})
body = sys.argv[2]
connection.request("POST" if body else "GET", path, body or None, headers)
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode())
"""


@pytest.fixture(scope="module")
def real_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@asynccontextmanager
async def boxed(folder: Path, runtime: FakeRuntime, real_box: RealBox, **more: Any) -> AsyncIterator[Hosted]:
    box: Any = real_box
    async with hosted(folder, runtime, box=box, **more) as host:
        await host.set_agent(box_policy=BoxPolicy(tools=("*",)))
        await until(lambda: host.parts.box_link.availability().available)
        yield host


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, real_box: RealBox) -> AsyncIterator[Hosted]:
    async with boxed(tmp_path, runtime, real_box) as serving:
        yield serving


def start(*argv: str) -> pb.RunBoxRequest:
    command = process_pb2.Command(argv=process_pb2.Argv(args=argv))
    return pb.RunBoxRequest(
        exec=process_pb2.ExecRequest(start=process_pb2.ExecStart(session_id="own", command=command))
    )


class Offer:
    """A call that offers the models, under way."""

    def __init__(self, run: FakeRun, **wanted: Any) -> None:
        self._run = run
        run.last_call += 1
        self.call_id = run.last_call
        self._wanted = pb.ServeModels(**wanted)
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        run.answers[self.call_id] = self._answers

    async def begin(self) -> Any:
        """The first answer."""
        frame = run_agent_pb2.RunOutputFrame()
        frame.call.call_id = self.call_id
        frame.call.run_box.serve_models.CopyFrom(self._wanted)
        await self._run.send(frame)
        return await self._answers.get()

    async def socket(self) -> pb.ModelsSocket:
        first = await self.begin()
        assert not first.HasField("error"), first.error
        return first.run_box.models_socket  # type: ignore[no-any-return]

    async def end(self) -> Any:
        """The last answer."""
        while (answer := await self._answers.get()).more:
            pass
        return answer

    async def withdraw(self) -> None:
        await self._run.cancel_call(self.call_id)
        await self.end()


async def inside(run: FakeRun, where: int | str, path: str, token: str, body: dict[str, Any] | None) -> tuple[int, Any]:
    """What a program in the session is answered."""
    given = json.dumps([where, path, token])
    asked = start("/usr/bin/python3", "-c", PROGRAM, given, json.dumps(body) if body else "")
    answers = await run.ask_all("run_box", asked)
    out = b"".join(one.run_box.exec.stdout for one in answers).decode()
    errors = b"".join(one.run_box.exec.stderr for one in answers).decode()
    assert out, errors
    status, _, said = out.partition("\n")
    return int(status), json.loads(said) if said.startswith("{") else said.strip()


async def test_a_program_without_network_and_key_asks_the_runs_models(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        offer = Offer(run)
        socket = await offer.socket()
        assert socket.path == "/run/portway/models.sock"
        assert socket.openai_base_url == f"http://127.0.0.1:{socket.port}/v1"
        token = run.start.run_token
        for where in (socket.port, socket.path):
            status, answer = await inside(run, where, "/v1/chat/completions", token, HELLO)
            assert (status, answer["choices"][0]["message"]["role"]) == (200, "assistant"), answer
        status, answer = await inside(run, socket.port, "/v1/messages", token, {**HELLO, "max_tokens": 99})
        assert (status, answer["type"]) == (200, "message"), answer
        status, answer = await inside(run, socket.port, "/openai/v1/models", token, None)
        assert status == 200 and "demo" in [one["id"] for one in answer["data"]]
        status, answer = await inside(run, socket.port, "/v1/models", token, None)
        assert status == 200 and answer["object"] == "list"
        status, answer = await inside(run, socket.port, "/v1/chat/completions", "", HELLO)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        await offer.withdraw()
        with pytest.raises(AssertionError, match="ConnectionRefusedError"):
            await inside(run, socket.port, "/v1/chat/completions", token, HELLO)

    run = await played(host, runtime, script)
    entries = [event.recorded for event in await host.watch(run.run_id) if event.HasField("recorded")]
    assert [entry.reason for entry in entries] == ["MODEL_GATEWAY"] * 3
    assert run.usage.input_tokens > 0
    assert (await spending(host, run_id=run.run_id)).spending.calls == 3


async def test_the_token_of_another_run_does_not_work_on_it(host: Hosted, runtime: FakeRuntime) -> None:
    async def other_script(run: FakeRun) -> None:
        tokens.append(run.start.run_token)
        await over.wait()

    async def script(run: FakeRun) -> None:
        socket = await Offer(run).socket()
        runtime.script = other_script
        other = asyncio.create_task(host.asked("hi", chat="another"))
        await until(lambda: bool(tokens))
        status, answer = await inside(run, socket.port, "/v1/chat/completions", tokens[0], HELLO)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert "another run" in answer["error"]["message"]
        status, _ = await inside(run, socket.port, "/v1/chat/completions", run.start.run_token, HELLO)
        assert status == 200
        over.set()
        await other

    tokens: list[str] = []
    over = asyncio.Event()
    await played(host, runtime, script)


async def test_the_socket_ends_with_its_run(host: Hosted, runtime: FakeRuntime) -> None:
    async def first(run: FakeRun) -> None:
        places.append((await Offer(run).socket(), run.start.run_token))

    async def second(run: FakeRun) -> None:
        socket, token = places[0]

        async def gone() -> bool:
            answers = await run.ask_all("run_box", start("/bin/sh", "-c", "ls -A /run/portway"))
            return b"".join(one.run_box.exec.stdout for one in answers) == b""

        await until_told(gone)
        # The same name again, at once, for the next run in the same session.
        again = await Offer(run, port=socket.port).socket()
        assert (again.path, again.port) == (socket.path, socket.port)
        status, _ = await inside(run, again.port, "/v1/chat/completions", token, HELLO)
        assert status == 401

    places: list[tuple[pb.ModelsSocket, str]] = []
    await played(host, runtime, first)
    await played(host, runtime, second)


async def test_a_name_is_offered_once_and_one_with_tricks_never(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await Offer(run).socket()
        refused = (await Offer(run).begin()).error
        assert (refused.code, refused.reason) == (6, "ALREADY_EXISTS")
        assert (await Offer(run, name="other").socket()).path == "/run/portway/other.sock"
        for name in ("../x", "a/b", "A", "x" * 49):
            assert (await Offer(run, name=name).begin()).error.code == 3

    await played(host, runtime, script)


@pytest.mark.parametrize("granted", [["models_invoke", "models_stream"], ["box_exec"]])
async def test_it_needs_the_permission_for_the_box_and_for_models(
    tmp_path: Path, real_box: RealBox, granted: list[str]
) -> None:
    async def script(run: FakeRun) -> None:
        refused = (await Offer(run).begin()).error
        assert (refused.code, refused.reason) == (7, "NOT_GRANTED"), refused

    async with serve_fake_runtime(FakeRuntime(manifest=a_manifest(permissions=granted))) as runtime:
        async with boxed(tmp_path, runtime, real_box) as host:
            await played(host, runtime, script)


GARBAGE = r"""
import os, socket, sys
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
NONSENSE = [
    b"\0" * 1000, b"A" * 200_000, os.urandom(50_000), b"GET / HTTP/9.9\r\n\r\n", POST + b"content-length: -1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nx: " + b"y" * 100_000, POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
]
def connected():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for said in NONSENSE:
    c = connected()
    try:
        c.sendall(said)
        c.shutdown(1)
        c.recv(1000)
    except OSError:
        pass
    c.close()
held = [connected() for _ in range(20)]
for c in held:
    c.sendall(POST)
print("said all of it")
"""


async def test_nonsense_on_it_harms_nobody_else(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        socket = await Offer(run).socket()
        for _ in range(3):
            answers = await run.ask_all("run_box", start("/usr/bin/python3", "-c", GARBAGE, str(socket.port)))
            out = b"".join(one.run_box.exec.stdout + one.run_box.exec.stderr for one in answers)
            assert out == b"said all of it\n"
        status, _ = await inside(run, socket.port, "/v1/chat/completions", run.start.run_token, HELLO)
        assert status == 200

    await played(host, runtime, script)


async def test_a_box_that_is_lost_ends_the_offer_and_the_run_may_offer_again(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path) as own:
        async with boxed(tmp_path, runtime, own) as host:

            async def script(run: FakeRun) -> None:
                offer = Offer(run)
                await offer.socket()
                own.kill()
                assert (await offer.end()).error.code == 14
                own.start()

                async def offered_again() -> bool:
                    return not (await Offer(run).begin()).HasField("error")

                await until_told(offered_again)

            await played(host, runtime, script)
