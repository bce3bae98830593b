"""What the operator decided about a plugin: which versions are kept, which one runs, and what it may do."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

MAX_REQUESTS = 32
"""Ids of requests that are remembered of one plugin."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a zip: the id of a key, and its Ed25519 signature in hex."""

    key_id: str
    value: str


@dataclass(frozen=True, slots=True)
class Version:
    """A version that is kept. `digest` is the SHA-256 of its zip in hex; `folder` lies below that of all versions;
    `permissions` are what it asks for; `install_time` is in seconds."""

    version: str
    digest: str
    folder: str
    install_time: int
    permissions: Sequence[str] = ()
    signature: Signature | None = None
    byte_count: int = 0
    file_count: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was answered: asked again, it changes nothing. `digest` is empty where it was no installation."""

    request_id: str
    action: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one plugin. `generation` grows with each change. `current` is the digest of the version that
    runs; empty for a plugin that was not installed, or was removed. `history` are the digests that were current before,
    the latest last; `waiting` are those that ask for more than `granted`. `disabled_because` is empty for no reason."""

    plugin_id: str
    generation: int = 0
    current: str = ""
    history: Sequence[str] = ()
    waiting: Sequence[str] = ()
    versions: Sequence[Version] = ()
    granted: Sequence[str] = ()
    disabled: bool = False
    disabled_because: str = ""
    requests: Sequence[Request] = field(default=())

    @property
    def installed(self) -> bool:
        return bool(self.current)

    def version(self, digest: str) -> Version | None:
        """The kept version with this digest."""
        return next((one for one in self.versions if one.digest == digest), None)

    def request(self, request_id: str) -> Request | None:
        return next((one for one in self.requests if request_id and one.request_id == request_id), None)

    def remembering(self, request_id: str, action: str, digest: str = "") -> "Record":
        """With one more request, without the oldest of too many."""
        if not request_id or self.request(request_id):
            return self
        return replace(self, requests=(*self.requests, Request(request_id, action, digest))[-MAX_REQUESTS:])

    def ungranted(self, version: Version) -> Sequence[str]:
        """What the version asks for and was not granted."""
        return tuple(one for one in version.permissions if one not in self.granted)
