"""Secrets: provider keys, credentials. Kept encrypted; a listing never shows them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be shown of a secret."""

    workspace_id: str
    secret_id: str
    key_id: str
    update_time: int


@dataclass(frozen=True, slots=True)
class SecretValue:
    """An opened secret. It does not print."""

    value: str = field(repr=False)
