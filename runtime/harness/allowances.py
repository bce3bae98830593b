"""What the runtime tells its own harness plugins of what the operator allows on this machine."""

import json
from collections.abc import Mapping

from portway.runtime.config import RuntimeConfig

HOST_HARNESS = "PORTWAY_HOST_HARNESS"
SESSION_BRIDGES = "PORTWAY_SESSION_BRIDGES"
_HARNESSES = ("claude-code", "codex", "acp", "exec")


def told_to_harnesses(config: RuntimeConfig) -> Mapping[str, Mapping[str, str]]:
    """Variables by plugin. There is no secret among them."""
    told: dict[str, Mapping[str, str]] = {}
    if config.host_harness.enabled:
        allowed = {
            "enabled": True,
            "working_directories": [str(one) for one in config.host_harness.working_directories],
            "workspace_days": config.host_harness.workspace_days,
        }
        told |= {f"portway/{name}": {HOST_HARNESS: json.dumps(allowed)} for name in _HARNESSES}
    if config.session_bridges:
        bridges = {name: [one.port, str(one.folder)] for name, one in config.session_bridges.items()}
        told["portway/session-bridge"] = {SESSION_BRIDGES: json.dumps(bridges)}
    return told
