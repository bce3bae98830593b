"""Puts the models of a host together."""

from __future__ import annotations

from portway.server.config import Config
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.kept.directory import ModelDirectory
from portway.server.models.kept.store import StoredModels
from portway.server.parts import Stores


def build_models(config: Config, stores: Stores) -> ModelDirectory:
    """Nothing is read, loaded or contacted yet. Raises InvalidInput (configuration)."""
    surroundings = Surroundings(config.environment, config.outbound)
    kept = StoredModels(stores.database.reader, stores.keyring)
    return ModelDirectory(build_registry(config.models, surroundings), kept, surroundings)
