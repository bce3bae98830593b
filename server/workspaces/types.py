"""A workspace: whose everything else is."""

from dataclasses import dataclass

DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, slots=True)
class Workspace:
    """`disabled` refuses new work and keeps the data; `revision` grows with every change."""

    workspace_id: str
    name: str
    disabled: bool
    revision: int
    create_time: int
    update_time: int
