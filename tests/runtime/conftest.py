"""A real runtime on port 0 with the plugins of the tests, and a host's connection to it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2_grpc
from tests.runtime.host_end import HostEnd

PLUGIN_FOLDERS = Path(__file__).parent / "plugin_folders"


@dataclass(frozen=True, slots=True)
class LiveRuntime:
    address: str
    tokens: dict[Role, str]
    host: HostEnd
    stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub"
    operator: "runtime_pb2_grpc.RuntimeServiceAsyncStub"


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> RuntimeConfig:
    return RuntimeConfig(
        data=tmp_path_factory.mktemp("runtime"),
        plugins=(PLUGIN_FOLDERS,),
        grants={"test/behave": ["PW_TEST_GRANTED"]},
        max_runs=64,
        drain_seconds=20.0,
        grace_seconds=1.0,
    )


@pytest.fixture
async def runtime(config: RuntimeConfig) -> AsyncIterator[LiveRuntime]:
    tokens = {role: mint_token(role.name.lower()).text for role in (Role.RUNTIME, Role.OPERATOR, Role.VIEWER)}
    known = FixedTokens((text, Caller(role, "*", role.name)) for role, text in tokens.items())
    async with (
        run_runtime(config, known) as server,
        open_channel(server.address, token=tokens[Role.RUNTIME]) as channel,
        open_channel(server.address, token=tokens[Role.OPERATOR]) as operator,
    ):
        yield LiveRuntime(
            server.address,
            tokens,
            HostEnd(channel),
            runtime_pb2_grpc.RuntimeServiceStub(channel),
            runtime_pb2_grpc.RuntimeServiceStub(operator),
        )
