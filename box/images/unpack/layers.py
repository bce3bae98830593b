"""Archives with layers: the layout of OCI, and what `docker save` writes. Layers are put on each other in order."""

import hashlib
import json
import os
import platform
import stat
from collections.abc import Sequence
from typing import Any

from portway.box.images.unpack.streams import open_stream
from portway.box.images.unpack.tar import Body, Entry, entries, shown
from portway.box.images.unpack.terms import Budget, Refused
from portway.box.images.unpack.tree import Tree
from portway.box.isolation.syscalls import open_beneath

_MOST_DOCUMENT = 4 * 1024 * 1024
_MOST_LAYERS, _MOST_NESTED = 512, 4
_WHITEOUT, _SPECIAL, _OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
_ROOT_NAMES = frozenset({"bin", "etc", "lib", "sbin", "usr"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def is_archive(names: Sequence[str]) -> bool:
    """Whether these names at the top are those of an archive with layers, and not of a root file system."""
    found = frozenset(names)
    return bool({"index.json", "manifest.json"} & found) and not _ROOT_NAMES & found


class Archive:
    """An archive that was unpacked as it is, to an open directory."""

    def __init__(self, directory: int, budget: Budget) -> None:
        self._directory = directory
        self._budget = budget

    def apply(self, tree: Tree) -> Any:
        """Puts the layers of its one image into the tree, and returns its configuration.

        Raises `Refused` where it has none, several or others.
        """
        config, layers = self._docker() if self._has("manifest.json") else self._oci()
        digests = self._layer_digests(config)
        if not layers or len(layers) != len(digests) or len(layers) > _MOST_LAYERS:
            raise Refused(f"it names {len(layers)} layers and {len(digests)} digests of layers, which do not fit")
        for path, digest in zip(layers, digests, strict=True):
            self._layer(tree, path, digest)
        return config

    def _layer(self, tree: Tree, path: str, digest: str) -> None:
        descriptor = self._open(path)
        try:
            hashed = hashlib.sha256()
            stream = open_stream(descriptor, self._budget, hashed.update)
            layer = _Layer(tree)
            for entry, body in entries(stream):
                layer.take(entry, body)
            stream.drain()
        finally:
            os.close(descriptor)
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise Refused(f"the layer {shown(path)} is not the one that the image was made of: its digest differs")

    def _docker(self) -> tuple[Any, list[str]]:
        found = _list(self._document("manifest.json"))
        if len(found) != 1:
            raise Refused(f"it holds {len(found)} images; save one alone")
        manifest = _dict(found[0])
        return self._document(_str(manifest.get("Config"))), [_str(layer) for layer in _list(manifest.get("Layers"))]

    def _oci(self) -> tuple[Any, list[str]]:
        manifest = self._manifest(_dict(self._document("index.json")), 0)
        config = self._verified(_dict(manifest.get("config")))
        return config, [_blob(_dict(layer)) for layer in _list(manifest.get("layers"))]

    def _manifest(self, index: dict[str, Any], depth: int) -> dict[str, Any]:
        """The manifest for this machine, which may lie in an index within the index."""
        if depth > _MOST_NESTED:
            raise Refused("its indexes lie too deep in each other")
        offered = [_dict(one) for one in _list(index.get("manifests"))]
        fitting = [one for one in offered if _fits(one)]
        if len(fitting) != 1:
            wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
            raise Refused(f"it holds {len(fitting)} images for linux/{wanted} among {len(offered)}; save one alone")
        document = _dict(self._verified(fitting[0]))
        return self._manifest(document, depth + 1) if "manifests" in document else document

    def _layer_digests(self, config: Any) -> list[str]:
        return [_str(one) for one in _list(_dict(_dict(config).get("rootfs")).get("diff_ids"))]

    def _verified(self, descriptor: dict[str, Any]) -> Any:
        path = _blob(descriptor)
        data = self._read(path)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor["digest"]:
            raise Refused(f"{shown(path)} is not what its name says: its digest differs")
        return _parsed(data, path)

    def _document(self, path: str) -> Any:
        return _parsed(self._read(path), path)

    def _read(self, path: str) -> bytes:
        descriptor = self._open(path)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_MOST_DOCUMENT + 1)
        if len(data) > _MOST_DOCUMENT:
            raise Refused(f"{shown(path)} is larger than any document of an image")
        return data

    def _has(self, path: str) -> bool:
        try:
            os.close(self._open(path))
        except Refused:
            return False
        return True

    def _open(self, path: str) -> int:
        """Beneath the archive; links in it are followed, as older archives share layers by links."""
        try:
            descriptor = open_beneath(self._directory, path, os.O_RDONLY | os.O_NONBLOCK)
        except (OSError, ValueError):
            raise Refused(f"{shown(path)} is named in it and not there") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refused(f"{shown(path)} is no file")
        return descriptor


class _Layer:
    """One layer over those before it: what it takes away is taken from them, not from what it brings itself."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._own: set[tuple[str, ...]] = set()

    def take(self, entry: Entry, body: Body) -> None:
        name = entry.parts[-1] if entry.parts else ""
        above = entry.parts[:-1]
        if name == _OPAQUE:
            self._hide_below(above)
        elif name.startswith(_SPECIAL):
            return
        elif name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise Refused(f"{shown(entry.path)} takes away nothing that has a name")
            self._hide((*above, hidden))
        elif self._tree.put(entry, body):
            for length in range(len(entry.parts), 0, -1):
                if entry.parts[:length] in self._own:
                    break
                self._own.add(entry.parts[:length])

    def _hide(self, parts: tuple[str, ...]) -> None:
        if parts not in self._own:
            self._tree.remove(parts)
        else:
            self._hide_below(parts)

    def _hide_below(self, parts: tuple[str, ...]) -> None:
        for name, _is_directory in self._tree.names(parts):
            self._hide((*parts, name))


def _fits(descriptor: dict[str, Any]) -> bool:
    said = descriptor.get("platform")
    if not isinstance(said, dict):
        return True
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return (said.get("os"), said.get("architecture")) == ("linux", wanted)


def _blob(descriptor: dict[str, Any]) -> str:
    digest = _str(descriptor.get("digest"))
    name = digest.removeprefix("sha256:")
    if name == digest or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise Refused(f"it names content by {shown(digest)}, which is no sha256 digest")
    return f"blobs/sha256/{name}"


def _parsed(data: bytes, path: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(f"{shown(path)} is no JSON") from None


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("one of its documents does not have the shape that it should")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("one of its documents does not have the shape that it should")
    return value


def _str(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Refused("one of its documents does not have the shape that it should")
    return value
