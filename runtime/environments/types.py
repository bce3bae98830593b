"""What an environment of packages is, where its packages come from, and how large it may become."""

from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import Reason, Unavailable


@dataclass(frozen=True, slots=True)
class EnvironmentsConfig:
    """`index` is the address of the package index (default: PyPI), `find_links` are folders with wheels that are looked
    through first; with `offline` nothing else is. One environment is made within `seconds` and takes at most `max_mb`;
    of those that no plugin uses, `keep` at most and `keep_mb` in all are kept."""

    index: str | None = None
    find_links: tuple[Path, ...] = ()
    offline: bool = False
    seconds: float = 300.0
    max_mb: int = 2048
    keep: int = 10
    keep_mb: int = 4096

    def __post_init__(self) -> None:
        if not all(one.is_absolute() for one in self.find_links):
            raise ValueError("find_links must be absolute paths")
        for name in ("seconds", "max_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        for name in ("keep", "keep_mb"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True, slots=True)
class Environment:
    """A folder with a Python and packages. Its name is the digest of everything that it was made from."""

    folder: Path

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        return self.programs / "python"


class EnvironmentUnusable(Unavailable):
    """An environment cannot be made; the message names the requirement and says what to do."""

    default_reason = Reason.RUNNER_UNAVAILABLE
