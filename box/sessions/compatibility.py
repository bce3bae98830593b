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
}


def differences(request: SessionRequest, wanted: SessionSpec, existing: SessionSpec) -> list[str]:
    """The fields that `request` says and the existing session has otherwise; `wanted` is the request resolved."""
    return [
        _PATHS.get(field.name, f"spec.{field.name}")
        for field in dataclasses.fields(SessionRequest)
        if _is_said(getattr(request, field.name)) and getattr(wanted, field.name) != getattr(existing, field.name)
    ]


def _is_said(value: object) -> bool:
    # False is what the contract's plain bool cannot tell from "not said".
    return value is not None and value is not False and value not in ("", (), {})
