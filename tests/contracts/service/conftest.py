"""The runners that ask a service, each in a live runtime, against a strict fake of its vendor."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.runtime.kit.host_end import EVERYTHING, HostEnd, Run
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.content import ArtifactRef
from portway.runtime.sdk.types.context import Permissions
from portway.v1 import content_pb2, interaction_pb2, run_context_pb2
from tests.fakes.services.api import KEY, FakeService, serve
from tests.fakes.services.coze import FakeCoze
from tests.fakes.services.dashscope import FakeDashScope
from tests.fakes.services.dify import FakeDify
from tests.fakes.services.langflow import FakeLangflow
from tests.fakes.services.n8n import FakeN8n
from tests.fakes.services.tbox import FakeTbox

ALLOWED = Permissions(EVERYTHING.granted | {"interactions_request"})


@dataclass(frozen=True)
class Vendor:
    """A runner, its fake and its configuration. `plain` is what turns streaming off."""

    runner: str
    fake: Callable[[], FakeService]
    config: Mapping[str, Any]
    url_field: str = "base_url"
    url_path: str = ""
    key_field: str = "api_key"
    plain: Mapping[str, Any] = field(default_factory=lambda: {"streaming": False})
    remembers: bool = True
    thinks: bool = True
    files: str = "cat.png"
    file_config: Mapping[str, Any] = field(default_factory=dict)


VENDORS = {
    "dify": Vendor("dify", FakeDify, {}, url_path="/v1", thinks=False),
    "n8n": Vendor(
        "n8n",
        FakeN8n,
        {"auth": "header", "header_name": "X-Portway"},
        url_field="webhook_url",
        url_path="/webhook/chat",
        key_field="header_value",
        plain={},
        remembers=False,
        thinks=False,
    ),
    "coze": Vendor("coze", FakeCoze, {"bot_id": "bot-1", "poll_seconds": 0.05}),
    "dashscope": Vendor("dashscope", FakeDashScope, {"app_id": "app-1"}, files="note.txt"),
    "langflow": Vendor(
        "langflow",
        FakeLangflow,
        {"flow_id": "flow-1"},
        remembers=False,
        thinks=False,
        file_config={"file_component": "ChatInput-1"},
    ),
    "tbox": Vendor("tbox", FakeTbox, {"app_id": "app-1"}),
}


@dataclass
class Subject:
    """A runner with its service. `things` is what its host has: state stays from run to run."""

    vendor: Vendor
    fake: Any
    host: HostEnd
    things: Things = field(default_factory=Things)

    @property
    def runner_id(self) -> str:
        return f"plugin:portway/{self.vendor.runner}/default"

    def config(self, **more: Any) -> dict[str, Any]:
        url = self.fake.base_url + self.vendor.url_path
        return {self.vendor.url_field: url, self.vendor.key_field: KEY, **self.vendor.config, **more}

    async def ask(self, text: str = "hello there", *, actor: str = "ann", **more: Any) -> Run:
        """A run to its end."""
        return await self.host.finished(text, self.runner_id, **self.options(actor, **more))

    def options(
        self, actor: str = "ann", about: run_context_pb2.RunContext | None = None, **more: Any
    ) -> dict[str, Any]:
        context = about or run_context_pb2.RunContext()
        context.actor.id = actor
        context.conversation.conversation_id = "cnv_1"
        return {"things": self.things, "permissions": ALLOWED, "config": self.config(**more), "about": context}

    def with_file(self, name: str, data: bytes) -> run_context_pb2.RunContext:
        mime_type = "image/png" if name.endswith("png") else "text/plain"
        self.things.artifacts["art_1"] = (ArtifactRef("art_1", mime_type, name, len(data)), data)
        part = content_pb2.ContentPart()
        media = part.image if name.endswith("png") else part.file
        media.artifact.artifact_id, media.artifact.name = "art_1", name
        media.artifact.mime_type, media.artifact.size = mime_type, len(data)
        context = run_context_pb2.RunContext()
        context.input.contents.append(part)
        return context


def answering(interaction_id: str, action: str, **values: Any) -> run_context_pb2.RunContext:
    answer = interaction_pb2.InteractionAnswer(interaction_id=interaction_id, action_id=action)
    answer.values.update(values)
    context = run_context_pb2.RunContext()
    context.input.interaction.CopyFrom(answer)
    return context


@dataclass(frozen=True)
class Bench:
    """A runtime that the tests of a module share, because starting one costs more than most of them."""

    channel: PortwayChannel

    @asynccontextmanager
    async def subject(self, name: str) -> AsyncIterator[Subject]:
        """A runner with a service of its own."""
        vendor = VENDORS[name]
        async with serve(vendor.fake()) as fake:
            yield Subject(vendor, fake, HostEnd(self.channel, f"plugin:portway/{name}/default"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
    config = RuntimeConfig(data=tmp_path_factory.mktemp("runtime"), grace_seconds=5.0, keep_cookies=True)
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        yield Bench(channel)


# One that streams events and the one that streams lines; what only concerns the client beneath is the same for all.
ALWAYS = ("dify", "n8n")
SOME = [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.heavy]) for name in VENDORS]


@pytest_asyncio.fixture(params=SOME, loop_scope="module")
async def attacked(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Subject]:
    """Two of the runners in every run of the tests, all of them in the heavy ones."""
    async with bench.subject(request.param) as one:
        yield one


@pytest_asyncio.fixture(params=VENDORS, loop_scope="module")
async def subject(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Subject]:
    async with bench.subject(request.param) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def dify(bench: Bench) -> AsyncIterator[Subject]:
    async with bench.subject("dify") as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def n8n(bench: Bench) -> AsyncIterator[Subject]:
    async with bench.subject("n8n") as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def coze(bench: Bench) -> AsyncIterator[Subject]:
    async with bench.subject("coze") as one:
        yield one
