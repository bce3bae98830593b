"""Settings of how plugins are installed: `runtime.installing`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.runtime.signing.keys import PUBLIC_KEY_FORM, is_public_key


@dataclass(frozen=True, slots=True)
class InstallingConfig:
    """`kept_versions` are those beside the current one. Of installations, `at_once` are worked on and `waiting` may
    wait. `reserve_mb` of the disk stay free. `trusted_keys` are public keys in hex by a name for people; with
    `require_signature` only versions signed by one of them run. `replace_bundled` lets a plugin that is installed take
    the place of one that came with Portway."""

    kept_versions: int = 3
    at_once: int = 4
    waiting: int = 32
    reserve_mb: int = 256
    trusted_keys: Mapping[str, str] = field(default_factory=dict)
    require_signature: bool = False
    replace_bundled: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("kept_versions", 1), ("at_once", 1), ("waiting", 0), ("reserve_mb", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}")
        for name, key in self.trusted_keys.items():
            if not is_public_key(key):
                raise ValueError(f"trusted_keys.{name} {PUBLIC_KEY_FORM}")
        if self.require_signature and not self.trusted_keys:
            raise ValueError("trusted_keys must name at least one key where require_signature is set")
