"""What an import may use up, why it is refused, and what comes of it. Loads nothing: the server imports it too."""

from dataclasses import dataclass, field

_BLOCK = 4096
# A ratio says nothing about a stream that has hardly begun.
_RATIO_FROM = 64 * 1024 * 1024
# What a stream holds beside the files: headers, padding, entries that are replaced by later ones.
_STREAM_SLACK = 256 * 1024 * 1024


class Refused(Exception):
    """The stream is no image that can be made. `kind`: `archive` where it is at fault, `size` where a bound is met."""

    def __init__(self, message: str, kind: str = "archive") -> None:
        super().__init__(message)
        self.kind = kind


# Where the tree lies, in the place of an import.
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes on the disk, entries, and how much larger than what was sent the content may be."""

    max_bytes: int
    max_entries: int
    max_ratio: int


@dataclass(frozen=True, slots=True)
class Measured:
    """An image as it is on the disk. Bytes. `env`: what its configuration sets for its programs."""

    digest: str
    size: int
    entry_count: int
    architecture: str
    env: list[tuple[str, str]] = field(default_factory=list)


class Budget:
    """Counts what an import uses, before it uses it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._bytes = 0
        self._entries = 0
        self._expanded = 0

    def entry(self) -> None:
        self._entries += 1
        self._bytes += _BLOCK
        if self._entries > self._bounds.max_entries:
            raise Refused(f"it has more than {self._bounds.max_entries} entries", "size")
        self._check()

    def announce(self, size: int) -> None:
        """A file of this size is to come."""
        self._bytes += -(-size // _BLOCK) * _BLOCK
        self._check()

    def _check(self) -> None:
        if self._bytes > self._bounds.max_bytes:
            raise Refused(f"unpacked it needs more than the {self._bounds.max_bytes} bytes that are left to it", "size")

    def expanded(self, produced: int) -> None:
        """So many more bytes came out of a stream."""
        self._expanded += produced
        if self._expanded > 2 * self._bounds.max_bytes + _STREAM_SLACK:
            raise Refused(f"its streams hold more than twice the {self._bounds.max_bytes} bytes left to it", "size")

    def ratio(self, produced: int, taken: int) -> None:
        """In all, `produced` bytes came out of the `taken` ones of one packed stream."""
        if produced > _RATIO_FROM and produced > taken * self._bounds.max_ratio:
            raise Refused(f"it is packed more than {self._bounds.max_ratio} to 1, as no root file system is", "size")
