"""A run's bridge inside its session: for programs that have no network, and for those of this run alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import BoxPolicy, ResourcePolicy
from portway.v1 import run_agent_pb2
from portway.v1 import run_pull_pb2 as pb
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.sandbox import why_no_sandbox
from tests.server.bridge.clients import a_call, a_request, initialize
from tests.server.bridge.scripted_tools import ScriptedTools
from tests.server.gateway.test_in_a_session import Offer, boxed, inside, start
from tests.server.playing import played
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until, until_told

# The same as `inside`, for a session's worth of messages.
PROGRAM = r"""
import http.client, json, socket, sys
where, token, messages = json.loads(sys.argv[1])
session, said = "", []
for message in messages:
    connection = http.client.HTTPConnection("127.0.0.1", where if isinstance(where, int) else 1)
    if not isinstance(where, int):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(where)
    headers = {"content-type": "application/json", "authorization": "Bearer " + token, "mcp-session-id": session}
    connection.request("POST", "/mcp", json.dumps(message), headers)
    answer = connection.getresponse()
    session = answer.getheader("mcp-session-id") or session
    said.append([answer.status, json.loads(answer.read() or b"null")])
print(json.dumps(said))
"""


class BridgeOffer(Offer):
    """A call that offers the bridge, under way."""

    async def begin(self) -> Any:
        frame = run_agent_pb2.RunOutputFrame()
        frame.call.call_id = self.call_id
        wanted = self._wanted
        frame.call.run_box.serve_bridge.CopyFrom(pb.ServeBridge(name=wanted.name, port=wanted.port))
        await self._run.send(frame)
        return await self._answers.get()

    async def place(self) -> pb.BridgeSocket:
        first = await self.begin()
        assert not first.HasField("error"), first.error
        return first.run_box.bridge_socket  # type: ignore[no-any-return]


async def talked(run: FakeRun, where: int | str, token: str, *messages: object) -> list[Any]:
    given = json.dumps([where, token, messages])
    answers = await run.ask_all("run_box", start("/usr/bin/python3", "-c", PROGRAM, given))
    out = b"".join(one.run_box.exec.stdout for one in answers).decode()
    assert out, b"".join(one.run_box.exec.stderr for one in answers).decode()
    return list(json.loads(out))


@pytest.fixture(scope="module")
def real_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path_factory.mktemp("box")) as box:
        yield box


async def test_programs_of_the_run_use_it_and_those_of_others_do_not(
    tmp_path: Path, runtime: FakeRuntime, tools: ScriptedTools, real_box: RealBox
) -> None:
    tokens: list[str] = []
    over = asyncio.Event()

    async def other_script(run: FakeRun) -> None:
        tokens.append(run.start.bridge_token)
        await over.wait()

    async def script(run: FakeRun) -> None:
        place = await BridgeOffer(run).place()
        assert (place.path, place.url) == ("/run/portway/bridge.sock", f"http://127.0.0.1:{place.port}/mcp")
        token = run.start.bridge_token
        for where in (place.port, place.path):
            call = a_call("tool_call", 2, **{"name": "plugin:tests/tools/echo", "arguments": {"text": "in"}})
            _, (status, answer) = await talked(run, where, token, initialize(), call)
            assert (status, answer["result"]["structuredContent"]) == (200, {"said": "in"})
        runtime.script = other_script
        asking = asyncio.create_task(host.asked("hi", chat="another"))
        await until(lambda: bool(tokens))
        for wrong in (tokens[0], run.start.run_token, "nonsense"):
            ((status, answer),) = await talked(run, place.port, wrong, initialize())
            assert (status, answer["error"]["data"]["reason"]) == (401, "TOKEN_INVALID")
        # No models here, and no bridge where the models are.
        status, _ = await inside(run, place.port, "/v1/models", run.start.run_token, None)
        assert status in (401, 404)
        models = await Offer(run).socket()
        status, _ = await inside(run, models.port, "/mcp", token, initialize())
        assert status in (401, 404)
        # One name is one socket, whatever it offers.
        assert (await BridgeOffer(run, name="models").begin()).error.reason == "ALREADY_EXISTS"
        assert (await Offer(run, name="bridge").begin()).error.reason == "ALREADY_EXISTS"
        over.set()
        await asking

    async with boxed(tmp_path, runtime, real_box) as host:
        policy = ResourcePolicy(tools=tools.names)
        await tools.given_to(host, resource_policy=policy, box_policy=BoxPolicy(tools=("*",)))
        await played(host, runtime, script)


async def test_it_ends_with_its_run_and_needs_no_permission_for_models(tmp_path: Path, real_box: RealBox) -> None:
    places: list[tuple[pb.BridgeSocket, str]] = []

    async def first(run: FakeRun) -> None:
        places.append((await BridgeOffer(run).place(), run.start.bridge_token))

    async def second(run: FakeRun) -> None:
        place, token = places[0]

        async def gone() -> bool:
            answers = await run.ask_all("run_box", start("/bin/sh", "-c", "ls -A /run/portway"))
            return b"".join(one.run_box.exec.stdout for one in answers) == b""

        await until_told(gone)
        again = await BridgeOffer(run, port=place.port).place()
        assert (again.path, again.port) == (place.path, place.port)
        # The token of the run before opens nothing, and its permissions are asked for by each tool.
        ((status, _),) = await talked(run, again.port, token, initialize())
        assert status == 401
        said = await talked(
            run, again.port, run.start.bridge_token, initialize(), a_request("ping"), a_call("history_page", 3)
        )
        assert said[1][1]["result"] == {}
        assert said[2][1]["result"]["content"][0]["text"].startswith("NOT_GRANTED: ")

    async with serve_fake_runtime(FakeRuntime(manifest=a_manifest(permissions=["box_exec"]))) as runtime:
        async with boxed(tmp_path, runtime, real_box) as host:
            await played(host, runtime, first)
            await played(host, runtime, second)


async def test_without_the_permission_for_the_box_there_is_none(tmp_path: Path, real_box: RealBox) -> None:
    async def script(run: FakeRun) -> None:
        refused = (await BridgeOffer(run).begin()).error
        assert (refused.code, refused.reason) == (7, "NOT_GRANTED"), refused

    async with serve_fake_runtime(FakeRuntime(manifest=a_manifest(permissions=["models_stream"]))) as runtime:
        async with boxed(tmp_path, runtime, real_box) as host:
            await played(host, runtime, script)
