"""A real registry of images for a test run: Debian's `docker-registry` on loopback, with a folder of its own."""

import contextlib
import hashlib
import json
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

_SECONDS = 120.0
USER, PASSWORD = "puller", "right"
# What `htpasswd -B` makes of it, with few rounds.
_HASHED = "$2b$04$GmiQaSQj0ozSSy5zzg4Ipu36GAuFYM0V/AzJ/qnOMP3uUDj16.Ul2"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def why_no_registry() -> str:
    return "" if shutil.which("docker-registry") else "no registry: docker-registry is not installed"


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that answers at `host`, such as `127.0.0.1:5000`, perhaps for `USER` with `PASSWORD` only."""

    host: str
    closed: bool

    def push(self, repository: str, tag: str, *layers: bytes, config: dict[str, Any] | None = None) -> str:
        """An image as OCI describes it; returns the digest of its manifest."""
        manifest = self._manifest(repository, layers, MACHINE, config or {})
        return self._tell(repository, tag, manifest, MANIFEST)

    def push_index(self, repository: str, tag: str, *layers: bytes) -> str:
        """The same for several machines; only that for this one has these layers."""
        offered = []
        for machine, content in (("other", (b"not for this machine",)), (MACHINE, layers)):
            manifest = self._manifest(repository, content, machine, {})
            digest = self._tell(repository, digest_of(manifest), manifest, MANIFEST)
            place = {"os": "linux", "architecture": machine}
            offered.append({"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "platform": place})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": offered}).encode()
        return self._tell(repository, tag, index, INDEX)

    def _manifest(self, repository: str, layers: Sequence[bytes], machine: str, config: dict[str, Any]) -> bytes:
        whole = {"os": "linux", "architecture": machine, "config": config}
        whole["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
        described = [self._blob(repository, json.dumps(whole).encode(), "application/vnd.oci.image.config.v1+json")]
        described += [self._blob(repository, one, "application/vnd.oci.image.layer.v1.tar") for one in layers]
        first, *rest = described
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": first, "layers": rest}).encode()

    def _blob(self, repository: str, data: bytes, kind: str) -> dict[str, Any]:
        with self._client() as client:
            begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest_of(data)})
            client.put(place, content=data).raise_for_status()
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    def _tell(self, repository: str, tag: str, manifest: bytes, kind: str) -> str:
        with self._client() as client:
            answer = client.put(
                f"/v2/{repository}/manifests/{tag}", content=manifest, headers={"content-type": kind}
            ).raise_for_status()
        assert answer.headers["docker-content-digest"] == digest_of(manifest)
        return digest_of(manifest)

    def _client(self) -> httpx.Client:
        auth = (USER, PASSWORD) if self.closed else None
        return httpx.Client(base_url=f"http://{self.host}", auth=auth, trust_env=False)


@contextlib.contextmanager
def registry(*, closed: bool = False) -> Iterator[Registry]:
    """Only where `why_no_registry` has nothing to say."""
    with tempfile.TemporaryDirectory(prefix="portway-registry-") as name:
        folder = Path(name)
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": "127.0.0.1:0"},
        }
        if closed:
            (folder / "users").write_text(f"{USER}:{_HASHED}\n")
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
        (folder / "config.yml").write_text(yaml.safe_dump(settings))
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(folder / "config.yml")], stdout=out, stderr=out, cwd=folder
            )
        try:
            yield Registry(_address(log, process), closed)
        finally:
            process.terminate()
            process.wait(_SECONDS)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on (127\.0\.0\.1:[0-9]+)", log.read_text(errors="replace")):
            return found.group(1)
        time.sleep(0.01)
    raise AssertionError(f"the registry did not start: {log.read_text(errors='replace')[-2000:]}")
