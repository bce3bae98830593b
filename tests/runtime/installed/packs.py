"""Zips of plugins as tests make them, and how they are sent."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from portway.rpc.status import errors_by_meaning
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import COMPONENT, write_plugin

Stub: TypeAlias = "runtime_pb2_grpc.RuntimeServiceAsyncStub"
PIECE = 64 * 1024
RUNNER = "plugin:test/one/default"

HANGS = """
import asyncio
from portway.runtime.sdk import AgentRunner, TextDelta


class Runner(AgentRunner):
    async def run(self, ctx, host):
        yield TextDelta("begun", "m")
        await asyncio.Event().wait()
"""


def zip_of(files: Mapping[str, bytes | str]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()


def zip_of_folder(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, path.read_bytes())
    return raw.getvalue()


def packed(root: Path, version: str, **options: str) -> bytes:
    """The plugin test/one (or `name`) that says its version, unless `says` is given."""
    name = options.pop("name", "one")
    options.setdefault("says", version)
    return zip_of_folder(write_plugin(root / f"{name}-{version}-{len(options)}", name, version=version, **options))


def digest_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def frames(raw: bytes, start: pb.InstallPluginStart) -> Iterator[pb.InstallPluginRequest]:
    yield pb.InstallPluginRequest(start=start)
    for offset in range(0, len(raw), PIECE):
        yield pb.InstallPluginRequest(chunk=pb.PluginChunk(offset=offset, data=raw[offset : offset + PIECE]))


async def _each(several: Iterator[pb.InstallPluginRequest]) -> AsyncIterator[pb.InstallPluginRequest]:
    for one in several:
        yield one


async def send(stub: Stub, several: Iterator[pb.InstallPluginRequest]) -> pb.InstallPluginResponse:
    with errors_by_meaning():
        return await stub.InstallPlugin(_each(several))


async def install(
    stub: Stub, raw: bytes, start: pb.InstallPluginStart | None = None, *, whole: bool = True
) -> pb.InstallPluginResponse:
    """`whole`: its size and digest are said before."""
    start = start or pb.InstallPluginStart()
    if whole:
        start.size, start.digest = len(raw), digest_of(raw)
    return await send(stub, frames(raw, start))


async def plugin(stub: Stub, plugin_id: str = "test/one") -> pb.Plugin:
    with errors_by_meaning():
        return (await stub.GetPlugin(pb.GetPluginRequest(plugin_id=plugin_id))).plugin


def left_behind(data: Path) -> list[str]:
    """What lies below the folder of installed plugins and belongs to no record."""
    installed = data / "installed"
    return sorted(
        str(one.relative_to(installed))
        for one in (*(installed / "incoming").iterdir(), *(installed / "versions").glob("*/*"))
    )


def asking(*models: str) -> str:
    """A component that asks for these of models."""
    return f"{COMPONENT.format(module='one')}permissions: {{models: [{', '.join(models)}]}}\n"


async def says(runtime: LiveRuntime) -> str:
    return (await runtime.host.finished("", RUNNER)).message
