"""Who names a model."""

from __future__ import annotations

import json
from collections.abc import Iterator

from portway.server.agents.store import read_agents
from portway.server.storage_engine.transaction import ReadTransaction


def agents_that_name(tx: ReadTransaction, workspace_id: str, model_id: str) -> list[str]:
    """Agents whose policy or configuration names the model."""
    return [
        agent.agent_id
        for agent in read_agents(tx, workspace_id)
        if model_id in agent.spec.resource_policy.model_ids or model_id in _texts(json.loads(agent.spec.config_json))
    ]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
