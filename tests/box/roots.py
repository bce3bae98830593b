"""Root file systems made by hand: a few programs of this machine with their libraries, and archives of every kind."""

import gzip
import hashlib
import io
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from portway.rpc.channel import PortwayChannel
from portway.rpc.client_stream import half_close, send
from portway.rpc.status import errors_by_meaning
from portway.v1 import image_pb2, image_pb2_grpc

PROGRAMS = ("sh", "cat", "ls", "cp", "mv", "rm", "mkdir", "grep", "sed", "head", "id", "touch", "stty", "sleep")
_PIECE = 256 * 1024


@cache
def small_root(programs: tuple[str, ...] = PROGRAMS) -> Mapping[str, bytes]:
    """Path and content of what a few programs need, from this machine."""
    found: dict[str, bytes] = {}
    for program in programs:
        path = shutil.which(program)
        assert path is not None, program
        found[f"bin/{program}"] = Path(path).read_bytes()
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+)", listed):
            found[library.lstrip("/")] = Path(library).read_bytes()
    return found


def tar_of(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def file(path: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), mode
    return info, content


def directory(path: str, mode: int = 0o755) -> tarfile.TarInfo:
    return _special(path, tarfile.DIRTYPE, mode=mode)


def link(path: str, target: str) -> tarfile.TarInfo:
    return _special(path, tarfile.SYMTYPE, target)


def hard_link(path: str, target: str) -> tarfile.TarInfo:
    return _special(path, tarfile.LNKTYPE, target)


def device(path: str, kind: bytes = tarfile.CHRTYPE) -> tarfile.TarInfo:
    return _special(path, kind)


def _special(path: str, kind: bytes, target: str = "", mode: int = 0o777) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def root_entries(
    programs: tuple[str, ...] = PROGRAMS, without: Iterable[str] = ()
) -> list[tuple[tarfile.TarInfo, bytes]]:
    leave = set(without)
    return [file(path, data, 0o755) for path, data in small_root(programs).items() if path not in leave]


@cache
def root_tar() -> bytes:
    """A root in which every check passes."""
    return tar_of(*root_entries(), file("etc/issue", b"hand-made\n"))


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def oci_archive(*layers: bytes, packed: bool = True) -> bytes:
    """An archive in the layout of OCI."""
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, object]:
        blobs[f"blobs/sha256/{digest_of(data)}"] = data
        return {"mediaType": kind, "digest": f"sha256:{digest_of(data)}", "size": len(data)}

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = {"os": "linux", "architecture": machine, "rootfs": {"diff_ids": [_diff(one) for one in layers]}}
    described = [add(gzip.compress(one) if packed else one, "application/x-layer") for one in layers]
    manifest = {"config": add(json.dumps(config).encode(), "application/x-config"), "layers": described}
    top = add(json.dumps(manifest).encode(), "application/x-manifest")
    top["platform"] = {"os": "linux", "architecture": machine}
    other = dict(top, platform={"os": "unknown", "architecture": "unknown"})
    files = [file(path, data) for path, data in blobs.items()]
    index = json.dumps({"manifests": [other, top]}).encode()
    return tar_of(*files, file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), file("index.json", index))


def docker_archive(*layers: bytes, config: Mapping[str, object] | None = None) -> bytes:
    """What `docker save` wrote before it wrote OCI: the second of two equal layers is a link to the first."""
    whole = json.dumps({"config": config or {}, "rootfs": {"diff_ids": [_diff(one) for one in layers]}}).encode()
    entries: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = [file("config.json", whole)]
    first: dict[str, str] = {}
    for number, layer in enumerate(layers):
        path = f"layer{number}/layer.tar"
        known = first.setdefault(digest_of(layer), path)
        entries.append(file(path, layer) if known == path else link(path, f"../{known}"))
    paths = [f"layer{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": paths}]).encode()
    return tar_of(*entries, file("manifest.json", manifest))


def _diff(layer: bytes) -> str:
    return f"sha256:{digest_of(layer)}"


def images_of(channel: PortwayChannel) -> "image_pb2_grpc.ImageServiceAsyncStub":
    return image_pb2_grpc.ImageServiceStub(channel)


async def import_image(
    channel: PortwayChannel, name: str, data: bytes, workspace_id: str = ""
) -> image_pb2.ImportImageResponse:
    start = image_pb2.ImportImageStart(name=name, workspace_id=workspace_id)
    pieces = (data[begin : begin + _PIECE] for begin in range(0, len(data), _PIECE))
    frames = (image_pb2.ImportImageRequest(data=piece) for piece in pieces)
    return await import_frames(channel, itertools.chain([image_pb2.ImportImageRequest(start=start)], frames))


async def import_frames(
    channel: PortwayChannel, frames: Iterable[image_pb2.ImportImageRequest]
) -> image_pb2.ImportImageResponse:
    with errors_by_meaning():
        call = images_of(channel).ImportImage()
        for frame in frames:
            # A box that has seen enough ends the call.
            if not await send(call, frame):
                break
        await half_close(call)
        return await call


async def validate(channel: PortwayChannel, name: str) -> list[image_pb2.ImageValidation]:
    """Every state that a validation went through."""
    with errors_by_meaning():
        call = images_of(channel).ValidateImage(image_pb2.ValidateImageRequest(image=name))
        return [answer.validation async for answer in call]


def left_in(data: Path) -> list[str]:
    """What is in the box's folder of images beside whole images."""
    folder = data / "images"
    return [path.name for path in folder.iterdir() if path.name.startswith(".")] if folder.is_dir() else []


def names_below(folder: Path) -> set[str]:
    """Every path below a folder, so that what appears outside of where it should is seen."""
    return {os.path.join(at, name) for at, names, files in os.walk(folder) for name in (*names, *files)}
