"""Bounds of images: the part `images` of the box's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.box.images.registry.reference import check_pattern
from portway.box.images.registry.settings import RegistryAccess

GIBI = 1024**3


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Bytes, counts and seconds. `max_bytes` bounds all images together, the others one image or one import.

    `allow`: patterns of references that may be pulled from registries and that, in a container engine, sessions may
    name although nobody imported them. `registries`: what is particular about one, by its host.
    """

    max_bytes: int = 32 * GIBI
    max_count: int = 100
    max_image_bytes: int = 8 * GIBI
    max_entries: int = 500_000
    max_ratio: int = 200
    concurrent_imports: int = 2
    import_idle: float = 60.0
    concurrent_validations: int = 4
    allow: tuple[str, ...] = ()
    registries: Mapping[str, RegistryAccess] = field(default_factory=dict)
    pull_timeout: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_count", "max_image_bytes", "max_entries", "max_ratio", "concurrent_imports"):
            if getattr(self, name) < 1:
                raise ValueError(f"`images.{name}` must be at least 1")
        for pattern in self.allow:
            check_pattern(pattern)
        if self.pull_timeout <= 0:
            raise ValueError("`images.pull_timeout` must be above 0")
        if self.import_idle <= 0 or self.concurrent_validations < 1:
            raise ValueError("`images.import_idle` must be above 0, `images.concurrent_validations` at least 1")
