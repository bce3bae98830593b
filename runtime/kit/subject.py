"""A plugin under test: in a live runtime, with a host's end to run it from."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.runtime.kit.host_end import HostEnd
from portway.v1 import runtime_pb2, runtime_pb2_grpc

GRACE_SECONDS = 1.0


class Differs(Exception):
    """The plugin does something else than it must; the text says what."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A runner of a plugin in a live runtime, or another component by its id. `host` opens runs of it unless told
    otherwise."""

    runner_id: str
    host: HostEnd
    stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub"

    @property
    def plugin_id(self) -> str:
        return self.runner_id.removeprefix("plugin:").rpartition("/")[0]

    async def plugin(self) -> runtime_pb2.Plugin:
        """What the runtime tells of it."""
        request = runtime_pb2.GetPluginRequest(plugin_id=self.plugin_id)
        return (await self.stub.GetPlugin(request)).plugin

    async def recycle(self) -> None:
        await self.stub.RecyclePlugin(runtime_pb2.RecyclePluginRequest(plugin_id=self.plugin_id))


@asynccontextmanager
async def live(runner_id: str, plugins: Path, data: Path, *, start_seconds: float = 20.0) -> AsyncIterator[Subject]:
    """A runtime of its own with the plugins of a folder (or the one that it is), for the time of the block."""
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_kit"))])
    config = RuntimeConfig(
        data=data,
        plugins=(plugins,),
        grace_seconds=GRACE_SECONDS,
        start_seconds=start_seconds,
        # The suite calls the worker itself.
        keep_cookies=True,
    )
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        yield Subject(runner_id, HostEnd(channel, runner_id), runtime_pb2_grpc.RuntimeServiceStub(channel))


def socket_of(pid: int) -> Path:
    """Where the process of a plugin listens. Raises `Differs` where it does not."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(entry))
        except FileNotFoundError:
            continue
    for line in Path("/proc/net/unix").read_text().splitlines():
        *_, inode, path = line.split() if len(line.split()) == 8 else ("", "", "")
        if path.endswith("/socket") and f"socket:[{inode}]" in held:
            return Path(path)
    raise Differs(f"the process {pid} listens on no socket")
