"""What an image is, and how far a validation of one is."""

import re
from dataclasses import dataclass
from enum import StrEnum

from portway.rpc.errors import InvalidInput

# The owner of an image that every workspace may use; no workspace has this name.
SHARED = "*"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}")


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """An image's full name. Two workspaces may use the same one; `workspace_id` is `*` for one that all may use."""

    workspace_id: str
    name: str

    def check(self) -> None:
        """Raises `InvalidInput` for what cannot be a new image's name."""
        if not _NAME.fullmatch(self.name) or ".." in self.name or "//" in self.name:
            raise InvalidInput.field(
                "name", "must be letters, digits and `._-/:@`, the first a letter or digit, at most 200"
            )


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here. `reference` is the backend's own name for it, for `SandboxSpec.image`. Bytes, epoch time.

    `digest` is over its content, `architecture` that of its programs ('' where it holds none). `env` is what its own
    configuration sets, `source` where it was pulled from ('' where it was imported).
    """

    name: ImageName
    reference: str
    digest: str
    size: int
    entry_count: int
    architecture: str
    backend: str
    create_time: float
    env: tuple[tuple[str, str], ...] = ()
    source: str = ""


class Stage(StrEnum):
    """How far a validation is."""

    SUBMITTED = "submitted"
    PULLING = "pulling"
    STARTING = "starting"
    RUNNING_CHECKS = "running_checks"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        return self in (Stage.COMPLETED, Stage.FAILED)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was found, and what to do where it did not pass."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Validation:
    """A validation as it is now. Times in seconds since the epoch; `end_time` is 0 while it is under way."""

    validation_id: str
    workspace_id: str
    image: str
    stage: Stage
    checks: tuple[Check, ...]
    reason: str
    digest: str
    create_time: float
    end_time: float = 0.0
    received_bytes: int = 0
    total_bytes: int = 0
