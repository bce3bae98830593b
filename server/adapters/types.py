"""What the host keeps for adapters, so that they need no disk of their own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """`generation` grows with every connection; an older connection of the same adapter has been replaced."""

    workspace_id: str
    adapter_id: str
    platform: str
    generation: int
    connect_time: int
