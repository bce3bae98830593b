"""A workspace: whose everything else is."""

from dataclasses import dataclass

DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, slots=True)
class Workspace:
    """`disabled` refuses new work and keeps the data."""

    workspace_id: str
    name: str
    disabled: bool
    create_time: int
    update_time: int
