"""What the host keeps for adapters, so that they need no disk of their own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceRecord:
    """A surface that an adapter serves. `bot_ids` empty: every account on it. `capabilities_json`: what it can do."""

    surface: str
    bot_ids: tuple[str, ...] = ()
    capabilities_json: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What an adapter says of itself."""

    adapter_id: str
    platform: str
    version: str = ""
    surfaces: tuple[SurfaceRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """`generation` grows with every connection; an older connection of the same adapter has been replaced."""

    workspace_id: str
    adapter_id: str
    platform: str
    version: str
    surfaces: tuple[SurfaceRecord, ...]
    generation: int
    change_time: int
