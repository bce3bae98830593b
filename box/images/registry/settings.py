"""Where images may be pulled from: parts of the section `images` of the box's settings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """How one registry is spoken to. `password_file` holds a password or token and nothing else, for its owner alone.

    `insecure`: without TLS. Its other hosts, where content and tokens come from, are held to the same.
    """

    username: str = ""
    password_file: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("`images.registries`: `username` and `password_file` go together")

    def password(self) -> str:
        """Read anew for each pull: a token may be changed while the box runs. Raises `OSError`."""
        return self.password_file.read_text().strip() if self.password_file is not None else ""
