"""The models that can be asked: the host's own, or those of one workspace, found by their ids."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from typing import Protocol

from portway.rpc.errors import FieldViolation, NotFound
from portway.server.models.errors import ModelBadRequest, ModelDisabled, ModelNotFound
from portway.server.models.fallback import ResolvedModel
from portway.server.models.flow.limited import LimitedProvider
from portway.server.models.prices.types import NO_PRICES, PriceTable
from portway.server.models.provider import Provider
from portway.server.models.remote import RemoteProvider
from portway.server.models.types import ModelInfo, ModelKind, ProviderInfo


class WorkspaceModels(Protocol):
    """The models of each workspace."""

    def of(self, workspace_id: str) -> ModelRegistry:
        """A view that does not change; ask again to see what has changed."""


class ModelRegistry:
    """One unchanging view. That of the host owns its providers (`build.build_registry`); that of a workspace has the
    workspace's models beside them (`kept.directory`)."""

    def __init__(
        self,
        models: Mapping[str, ResolvedModel],
        infos: Sequence[ProviderInfo],
        providers: Sequence[Provider],
        remotes: Mapping[str, RemoteProvider],
        default_model_id: str,
        prices: PriceTable = NO_PRICES,
    ) -> None:
        self._models = dict(models)
        self._infos = {info.provider_id: info for info in infos}
        self._providers = tuple(providers)
        self._remotes = dict(remotes)
        self._default_model_id = default_model_id
        self._prices = prices

    def of(self, workspace_id: str) -> ModelRegistry:
        """The view of a workspace: this one, where no workspace has models of its own."""
        return self

    def with_own(
        self, models: Mapping[str, ResolvedModel], infos: Sequence[ProviderInfo], default: str, prices: PriceTable
    ) -> ModelRegistry:
        """With a workspace's own beside these, which it cannot replace."""
        merged = {**models, **self._models}
        own = [info for info in infos if info.provider_id not in self._infos]
        return ModelRegistry(merged, [*self._infos.values(), *own], (), {}, default or self._default_model_id, prices)

    @property
    def default_model_id(self) -> str:
        """The model of agents that name none."""
        return self._default_model_id

    @property
    def prices(self) -> PriceTable:
        """What the models cost."""
        return self._prices

    def models(self) -> tuple[ModelInfo, ...]:
        """Every model, by id."""
        return tuple(self._models[model_id].info for model_id in sorted(self._models))

    def providers(self) -> tuple[ProviderInfo, ...]:
        """Every provider, by id."""
        return tuple(self._infos[provider_id] for provider_id in sorted(self._infos))

    def provider(self, provider_id: str) -> ProviderInfo:
        """One provider. Errors: `NotFound`."""
        if provider_id not in self._infos:
            raise NotFound.of("model provider", provider_id)
        return self._infos[provider_id]

    def model(self, model_id: str) -> ModelInfo:
        """One model of any type. Errors: `ModelNotFound`."""
        return self._found(model_id).info

    def resolve(self, model_id: str, kind: ModelKind = ModelKind.LLM) -> ResolvedModel:
        """The model that can be asked for what `kind` says. Errors: `ModelNotFound`, `ModelBadRequest` (kind),
        `ModelDisabled`."""
        found = self._found(model_id)
        if found.info.disabled:
            raise ModelDisabled(
                f"model {model_id!r}, or its provider {found.info.provider_id!r}, is switched off; an operator can "
                "switch it on with `portway model enable`",
                provider_id=found.info.provider_id,
                model_id=model_id,
            )
        if found.info.kind is not kind:
            raise ModelBadRequest(
                f"model {model_id!r} is of type {found.info.kind}, and one of type {kind} is needed here",
                provider_id=found.info.provider_id,
                model_id=model_id,
                fields=[FieldViolation("model_id", f"is not of type {kind}")],
            )
        return found

    def retries(self) -> dict[str, int]:
        """How often calls of each provider were tried again."""
        return {one.provider_id: one.retry_count for one in self._providers if isinstance(one, LimitedProvider)}

    async def load(self) -> None:
        """Loads the providers ahead of their first use; for start-up, once the server is ready."""
        await asyncio.gather(*(remote.load() for remote in self._remotes.values()))

    async def close(self) -> None:
        """Closes every provider."""
        for provider in self._providers:
            await provider.close()

    def _found(self, model_id: str) -> ResolvedModel:
        found = self._models.get(model_id)
        if found is None:
            raise ModelNotFound(self._unknown(model_id), provider_id="", model_id=model_id)
        return found

    def _unknown(self, model_id: str) -> str:
        near = difflib.get_close_matches(model_id, self._models, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(self._models)[:20])}"
        return f"there is no model {model_id!r}; {hint} Models are configured in models.providers"
