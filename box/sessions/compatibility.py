"""Whether a session that is there is what a caller asks for."""

import dataclasses
from collections.abc import Mapping

from portway.box.sessions.types import SessionRequest, SessionSpec

_PATHS: Mapping[str, str] = {
    "cpu_millis": "spec.limits.cpu_millis",
    "memory_bytes": "spec.limits.memory_bytes",
    "pids": "spec.limits.pids",
    "disk_bytes": "spec.limits.disk_bytes",
    "concurrent_commands": "spec.limits.concurrent_commands",
    "command_timeout": "spec.limits.command_timeout",
    "default_timeout": "spec.limits.default_timeout",
    "mounts_read_only": "spec.extra_mounts.mode",
}
# What the contract's plain bool cannot tell from "not said".
_SAID_BY_TRUE = frozenset({"persistent"})


def differences(request: SessionRequest, wanted: SessionSpec, existing: SessionSpec) -> list[str]:
    """The fields that `request` says and the existing session has otherwise; `wanted` is the request resolved.

    Every field of a request counts, also one that is added later.
    """
    return [
        path_of(field.name)
        for field in dataclasses.fields(SessionRequest)
        if _is_said(field.name, getattr(request, field.name))
        and getattr(wanted, field.name) != getattr(existing, field.name)
    ]


def path_of(name: str) -> str:
    """Where a field of a request is in the contract."""
    return _PATHS.get(name, f"spec.{name}")


def _is_said(name: str, value: object) -> bool:
    if name in _SAID_BY_TRUE:
        return value is True
    return value is not None and value not in ("", (), {})
