"""A runtime whose plugins need packages, and no index that answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.runtime.environments.types import EnvironmentsConfig
from portway.v1 import runtime_pb2, runtime_pb2_grpc
from tests.runtime.folders import write_plugin
from tests.runtime.host_end import HostEnd
from tests.waiting import until_told

# Nobody listens on port 9 of a loopback address: every connection is refused at once.
NOBODY = "http://127.0.0.1:9/simple"
CODE = """
import little
from portway.runtime.sdk import AgentRunner, MessageCompleted


class Runner(AgentRunner):
    async def run(self, ctx, host):
        yield MessageCompleted.of_text(little.VERSION)
"""


@dataclass(frozen=True, slots=True)
class Live:
    host: HostEnd
    stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub"
    environments: Path

    async def says(self, name: str) -> str:
        return (await self.host.finished("ok", f"plugin:test/{name}/default")).message

    async def plugin(self, name: str) -> runtime_pb2.Plugin:
        return (await self.stub.GetPlugin(runtime_pb2.GetPluginRequest(plugin_id=f"test/{name}"))).plugin

    async def broken(self, name: str) -> str:
        """Why it cannot be used, once that is known."""

        async def known() -> bool:
            return (await self.plugin(name)).state == runtime_pb2.PLUGIN_STATE_BROKEN

        await until_told(known)
        return (await self.plugin(name)).reason

    def made(self) -> list[str]:
        return sorted(one.name for one in self.environments.iterdir())


Open = Callable[..., AbstractAsyncContextManager[Live]]


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


@pytest.fixture
def live(tmp_path: Path, plugins: Path) -> Open:
    """A runtime on the same folders each time; `index` is one that refuses every connection."""

    @asynccontextmanager
    async def opened(index: str = NOBODY, **more: object) -> AsyncIterator[Live]:
        token = mint_token("runtime").text
        known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
        environments = EnvironmentsConfig(index=index, **more)  # type: ignore[arg-type]
        config = RuntimeConfig(
            data=tmp_path / "data", plugins=(plugins,), environments=environments, grace_seconds=1.0, drain_seconds=5.0
        )
        async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
            stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
            yield Live(HostEnd(channel), stub, tmp_path / "data" / "environments")

    return opened


def needing(root: Path, name: str, requirements: str, code: str = CODE) -> Path:
    """A plugin that says the version of the package `little` that it finds."""
    return write_plugin(root, name, more=f"execute: {{requirements: {requirements}}}\n", code=code)
