"""Which model of the run a program means by the name that it asks for."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase

from portway.server.models.registry import ModelRegistry
from portway.server.models.types import ModelInfo, ModelKind
from portway.server.runner_calls.scope import RunScope
from portway.server.snapshot.selected import selected_by


def granted(run: RunScope, kind: ModelKind = ModelKind.LLM) -> list[ModelInfo]:
    """The models of the run, the primary first."""
    return [model for model in run.snapshot.models.values() if model.kind is kind]


def meant(run: RunScope, registry: ModelRegistry, name: str, action: str, kind: ModelKind) -> Sequence[str]:
    """Ids of the model that is meant and of its fallbacks. Raises NotFound.

    In this order: the id of a model that the run was given; an alias of the agent; what a provider calls a model of the
    run; and, since programs ask for what they were made for, the run's primary with its fallbacks.
    """
    models = granted(run, kind)
    ids = [model.model_id for model in models]
    if name in ids:
        return [name]
    for alias in run.snapshot.spec.model_aliases:
        if fnmatchcase(name, alias.pattern):
            if alias.model_id not in ids:
                raise run.missing(action, "model", alias.model_id)
            return [alias.model_id]
    for model_id in ids:
        if registry.model(model_id).name == name:
            return [model_id]
    if not ids:
        raise run.missing(action, "model", name)
    return [ids[0], *(one for one in _fallbacks(run) if one in ids[1:])]


def _fallbacks(run: RunScope) -> Sequence[str]:
    config = json.loads(run.snapshot.spec.config_json)
    return selected_by(run.snapshot.runner.config_fields, config).models[1:8]
