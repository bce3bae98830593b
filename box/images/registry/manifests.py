"""What a registry says an image consists of. Nothing of it is believed beyond its shape: digests are checked later."""

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portway.rpc.errors import InvalidInput, LimitExceeded

MOST_DOCUMENT = 4 * 1024 * 1024
_MOST_LAYERS = 512
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPTED = ", ".join((*_MANIFESTS, *_INDEXES))
# As registries call machines, by the kernel's names for them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Blob:
    """Content by its digest. `size` in bytes, as announced."""

    digest: str
    size: int

    @property
    def path(self) -> str:
        """Where it lies in the layout of OCI."""
        return f"blobs/sha256/{self.digest.removeprefix('sha256:')}"


def is_index(document: dict[str, Any]) -> bool:
    return "manifests" in document


def parsed(data: bytes) -> dict[str, Any]:
    """Raises `InvalidInput`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _odd("a manifest that is no JSON object")
    return document


def fitting(index: dict[str, Any]) -> str:
    """The digest of the manifest for this machine. Raises `InvalidInput`."""
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    offered: list[str] = []
    for one in _list(index.get("manifests")):
        place = one.get("platform") if isinstance(one, dict) else None
        if not isinstance(place, dict):
            continue
        offered.append(f"{place.get('os')}/{place.get('architecture')}"[:40])
        if (place.get("os"), place.get("architecture")) == ("linux", wanted):
            return _blob(one).digest
    listed = ", ".join(offered[:10]) or "none"
    raise InvalidInput.field("reference", f"has no image for linux/{wanted} in the registry; there are: {listed}")


def blobs(manifest: dict[str, Any], most_bytes: int) -> Sequence[Blob]:
    """Configuration and layers, each once. Raises `InvalidInput`, `LimitExceeded`."""
    layers = _list(manifest.get("layers"))
    if manifest.get("schemaVersion") != 2 or "config" not in manifest or len(layers) > _MOST_LAYERS:
        raise _odd("a manifest that is neither of OCI nor of Docker's version 2")
    found = {blob.digest: blob for blob in (_blob(one) for one in (manifest["config"], *layers))}
    if sum(blob.size for blob in found.values()) > most_bytes:
        raise LimitExceeded(f"the image has more than the {most_bytes} bytes that are left (`box.images`)")
    return list(found.values())


def _blob(said: Any) -> Blob:
    digest = said.get("digest") if isinstance(said, dict) else None
    size = said.get("size") if isinstance(said, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or type(size) is not int or size < 0:
        raise _odd("content without a sha256 digest and a size")
    return Blob(digest, size)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _odd("a manifest without content")
    return value


def _odd(what: str) -> InvalidInput:
    return InvalidInput.field("reference", f"cannot be used: the registry gave {what}")
