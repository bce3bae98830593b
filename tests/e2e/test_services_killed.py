"""Whatever is killed while a service answers: the message is never sent twice, people are told, the next one is
answered, and no key is anywhere."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portway.clients.host import Portway
from portway.v1 import run_pb2
from tests.contracts.service.conftest import VENDORS, Vendor
from tests.e2e.stack import Stack, alive, started, until
from tests.e2e.test_canaries import descendants
from tests.fakes.collector import FakeCollector, serve_collector
from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, document, never, serve

pytestmark = pytest.mark.heavy

TERMINAL = {run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED}
STOPS = ("dify", "coze")


@dataclass
class Installed:
    """An installation with an agent for each service, and what people saw of its runs."""

    stack: Stack
    fakes: dict[str, Any]
    said: list[str] = field(default_factory=list)

    async def begun(self, host: Portway, vendor: str) -> str:
        """A run that has spoken, and whose service says no more."""
        fake = self.fakes[vendor]
        fake.client_left.clear()
        whole = fake.answer(fake.messages()[-1]).pieces
        kind = "application/json" if vendor == "n8n" else "text/event-stream"
        fake.will(Answer((*whole[: len(whole) // 2], never()), 200, {"content-type": kind}))
        accepted = await host.send("hello there", conversation_id=uuid.uuid4().hex, agent_id=vendor)
        async for event in host.runs.watch(accepted.run_id):
            if event.HasField("message_delta") and event.message_delta.text:
                return accepted.run_id
        raise AssertionError(f"the run of {vendor} ended without a word")

    async def ended(self, run_id: str) -> run_pb2.Run:
        found: list[run_pb2.Run] = []
        async with asyncio.timeout(60), self.stack.client() as host:
            while not found:
                run = await host.runs.get(run_id)
                if run.state in TERMINAL:
                    found.append(run)
                await asyncio.sleep(0.05)
        self.said.append(str(found[0]))
        return found[0]

    async def answered(self, vendor: str) -> None:
        """The next message is answered."""
        done = await self.stack.portway("send", "hello there", "--agent", vendor, "--wait")
        self.said.append(done.out + done.err)
        assert "echo: hello there" in done.out, (vendor, done)

    def plugins(self) -> dict[str, int]:
        """Processes of the services' plugins by vendor."""
        found = {}
        for pid, (_command, _environment) in descendants(self.stack.process.pid).items():
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            for vendor in self.fakes:
                if name.startswith("pw:") and name.endswith(vendor[-4:]) and vendor[:3] in name:
                    found[vendor] = pid
        return found


def declared(vendors: dict[str, Vendor], fakes: dict[str, Any], collector: FakeCollector) -> str:
    agents = []
    for name, vendor in vendors.items():
        url = fakes[name].base_url + vendor.url_path
        config = {vendor.url_field: url, vendor.key_field: KEY, **vendor.config}
        agents.append({"agent_id": name, "name": name, "runner_id": f"plugin:portway/{name}/default", "config": config})
    telemetry = {"otlp_endpoint": collector.url, "headers": {"x-key": collector.key}}
    return json.dumps({"agents": agents, "telemetry": telemetry, "log": {"level": "debug"}})


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with serve_collector() as serving:
        yield serving


@asynccontextmanager
async def installed(folder: Path, collector: FakeCollector) -> AsyncIterator[Installed]:
    async with AsyncExitStack() as stack:
        fakes: dict[str, Any] = {}
        for name, vendor in VENDORS.items():
            fakes[name] = await stack.enter_async_context(serve(vendor.fake()))
        running = await stack.enter_async_context(started(folder, config=declared(dict(VENDORS), fakes, collector)))
        yield Installed(running, fakes)


async def _kill(one: Installed, victim: str) -> None:
    if victim == "plugin":
        plugins = one.plugins()
        assert plugins.keys() == one.fakes.keys(), plugins
        for pid in plugins.values():
            os.kill(pid, signal.SIGKILL)
        for pid in plugins.values():
            await until(lambda pid=pid: not alive(pid), "a plugin to be gone")
    else:
        await one.stack.restarted(victim, await one.stack.kill(victim))


@pytest.mark.parametrize("victim", ["plugin", "runtime", "host"])
async def test_a_kill_amid_an_answer_sends_nothing_twice(tmp_path: Path, collector: FakeCollector, victim: str) -> None:
    async with installed(tmp_path, collector) as one:
        for vendor in one.fakes:
            await one.answered(vendor)
        async with one.stack.client() as host:
            runs = {vendor: await one.begun(host, vendor) for vendor in one.fakes}
        asked = {vendor: len(fake.messages()) for vendor, fake in one.fakes.items()}
        before = set(one.plugins().values())
        await _kill(one, victim)
        for vendor, run_id in runs.items():
            run = await one.ended(run_id)
            assert run.state == run_pb2.RUN_STATE_FAILED, (vendor, run)
            assert run.error.code, run
            async with asyncio.timeout(60):
                await one.fakes[vendor].client_left.wait()
            assert len(one.fakes[vendor].messages()) == asked[vendor], vendor
        if victim == "host":
            # The plugins live: what goes on at the services is stopped where that is possible.
            for vendor in STOPS:
                fake = one.fakes[vendor]
                await until(lambda fake=fake: fake.stopped if hasattr(fake, "stopped") else fake.cancelled, "a stop")
        else:
            await until(lambda: not any(alive(pid) for pid in before), "the plugins to be gone")
        for vendor in one.fakes:
            await one.answered(vendor)
            assert len(one.fakes[vendor].messages()) == asked[vendor] + 1, vendor


async def test_a_key_is_nowhere_though_the_service_repeats_it_everywhere(
    tmp_path: Path, collector: FakeCollector
) -> None:
    async with installed(tmp_path, collector) as one:
        for vendor, fake in one.fakes.items():
            await one.answered(vendor)
            # An answer that repeats the key, and refusals that do, in their code as well as in their text.
            repeating = fake.answer(_asking(fake.messages()[-1], f"the key is {KEY}!"))
            told = {"code": KEY, "message": f"no {KEY}", "errorCode": KEY, "errorMsg": KEY, "msg": KEY, "detail": KEY}
            fake.will(repeating, document(told, 400), document(told), document(told, 401))
            for _ in range(4):
                done = await one.stack.portway("send", "hello there", "--agent", vendor, "--wait")
                one.said.append(done.out + done.err)
            shown = await one.stack.portway("agents", "show", vendor)
            logs = await one.stack.portway("plugin", "logs", f"portway/{vendor}")
            one.said += [shown.out, shown.err, logs.out, logs.err]
        assert sum("the key is ***!" in said for said in one.said) == len(one.fakes), one.said
        async with one.stack.client() as host:
            one.said += [str(run) for run in await host.runs.list()]
            one.said += [str(await host.runs.explain(run.run_id)) for run in await host.runs.list()]
        for pid, (command, environment) in descendants(one.stack.process.pid).items():
            assert KEY.encode() not in command + environment, pid
    one.said.append((tmp_path / "up.log").read_text("utf-8"))
    assert not [said for said in one.said if KEY in said]
    assert collector.bodies and not [body for body in collector.bodies if KEY.encode() in body]
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), f"a key lies in {path}"


def _asking(asked: Any, text: str) -> Any:
    """The same request with another text."""
    raw = json.dumps(asked.body, ensure_ascii=False).replace("hello there", text)
    return type(asked)(asked.method, asked.path, asked.query, asked.headers, json.loads(raw), asked.files)
