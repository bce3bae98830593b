"""A pull: what a registry has of an image becomes an archive with layers, which goes the way that every import goes."""

import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portway.box.images.registry.manifests import ACCEPTED, MOST_DOCUMENT, Blob, blobs, fitting, is_index, parsed
from portway.box.images.registry.reference import Reference
from portway.box.images.registry.settings import RegistryAccess
from portway.box.network.addresses import AddressRules
from portway.rpc.errors import InvalidInput, NotPermitted, Reason, Unavailable

if TYPE_CHECKING:
    from portway.box.images.registry.client import RegistryClient

_BLOCK = 512
# Told of at most so often, evenly over its bytes: who watches needs no more.
_STEPS = 50
# So many bytes came of so many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pull:
    """An image that can be pulled now. `source` is its reference with the digest of its manifest."""

    source: str
    total_bytes: int
    archive: AsyncIterator[bytes]


class Puller:
    """Pulls what the operator allows."""

    def __init__(self, allow: Sequence[str], registries: Mapping[str, RegistryAccess], rules: AddressRules) -> None:
        self._allow = allow
        self._registries = registries
        self._rules = rules

    def allowed(self, name: str) -> Reference:
        """The reference that a name is. Raises `InvalidInput`; `NotPermitted` where the operator does not allow it."""
        reference = Reference.of(name)
        if not reference.is_allowed(self._allow):
            raise NotPermitted(
                f"image {name!r} is not here, and the operator of this box does not allow to pull it "
                f"(`box.images.allow`); `portway box image import FILE --name {name}` makes one",
                reason=Reason.REFUSED_BY_POLICY,
            )
        return reference

    @asynccontextmanager
    async def open(self, name: str, most_bytes: int, progress: Progress) -> AsyncIterator[Pull]:
        """Asks the registry for the manifest. Raises errors by their meaning."""
        reference = self.allowed(name)
        # 0.2 s, which only a box that pulls something pays.
        from portway.box.images.registry.client import RegistryClient  # noqa: PLC0415

        access = self._registries.get(reference.registry, RegistryAccess())
        client = RegistryClient(reference, access, self._rules)
        try:
            data = await _manifest(client, reference.digest or reference.tag, reference.digest)
            top = _digest(data)
            document = parsed(data)
            if is_index(document):
                digest = fitting(document)
                data = await _manifest(client, digest, digest)
                document = parsed(data)
            content = blobs(document, most_bytes)
            total = sum(blob.size for blob in content)
            yield Pull(reference.pinned(top), total, _archive(client, data, content, _Counter(total, progress)))
        finally:
            await client.close()


class _Counter:
    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._came = self._told = 0
        progress(0, total)

    def add(self, count: int) -> None:
        self._came += count
        if self._came - self._told >= self._total / _STEPS or self._came == self._total:
            self._told = self._came
            self._progress(self._came, self._total)


async def _manifest(client: "RegistryClient", name: str, digest: str) -> bytes:
    """A manifest; with `digest`, that one and no other."""
    data = b""
    async with client.get(f"manifests/{name}", ACCEPTED) as answer:
        async for piece in answer.pieces:
            data += piece
            if len(data) > MOST_DOCUMENT:
                raise InvalidInput.field("reference", "cannot be used: its manifest is larger than any should be")
    if digest and _digest(data) != digest:
        raise _another(f"the manifest {digest}")
    return data


async def _archive(
    client: "RegistryClient", manifest: bytes, content: Sequence[Blob], counter: _Counter
) -> AsyncIterator[bytes]:
    """The layout of OCI as a tar, made as the layers come; nothing of it is held."""
    top = Blob(_digest(manifest), len(manifest))
    index: dict[str, Any] = {"schemaVersion": 2, "manifests": [{"digest": top.digest, "size": top.size}]}
    yield _file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    yield _file("index.json", json.dumps(index).encode())
    yield _file(top.path, manifest)
    for blob in content:
        yield _header(blob.path, blob.size)
        async for piece in _checked(client, blob):
            counter.add(len(piece))
            yield piece
        yield bytes(-blob.size % _BLOCK)
    yield bytes(2 * _BLOCK)


async def _checked(client: "RegistryClient", blob: Blob) -> AsyncIterator[bytes]:
    """The bytes of a blob. Raises where they are not what its digest and size say."""
    hashed, came = hashlib.sha256(), 0
    async with client.get(f"blobs/{blob.digest}") as answer:
        async for piece in answer.pieces:
            came += len(piece)
            if came > blob.size:
                raise _another(f"the layer {blob.digest}")
            hashed.update(piece)
            yield piece
    if came < blob.size:
        raise Unavailable(f"the registry ended amid the layer {blob.digest}; try again", retry_after=5.0)
    if f"sha256:{hashed.hexdigest()}" != blob.digest:
        raise _another(f"the layer {blob.digest}")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _another(what: str) -> InvalidInput:
    return InvalidInput.field("reference", f"cannot be used: the registry gave something else for {what}")


def _file(path: str, data: bytes) -> bytes:
    return _header(path, len(data)) + data + bytes(-len(data) % _BLOCK)


def _header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)
