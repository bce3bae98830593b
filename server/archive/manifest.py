"""What an archive says of itself: its first promise to whoever has to rely on it later."""

from dataclasses import dataclass, field

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`kind` is `backup` or `export`; `revision` the schema's; `create_time` in microseconds; `rows` by table.

    `missing` are blobs that rows refer to and that were not on disk when the archive was made.
    """

    format: int = FORMAT
    kind: str
    portway: str
    revision: str
    database: str
    create_time: int
    host_running: bool
    keys: bool
    blobs: bool
    epoch: int
    rows: dict[str, int]
    members: dict[str, Member] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
