"""The models of every workspace, in memory: what the host has, and beside it what the workspace keeps.

A change gives a new view; calls that are under way keep the provider that they began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from portway.rpc.errors import PortwayError
from portway.server.models.build import (
    Built,
    Surroundings,
    build_provider,
    built_in_prices_of,
    provider_info,
    resolved_model,
)
from portway.server.models.config import ModelConfig, ProviderConfig, ProviderLimits
from portway.server.models.fallback import ResolvedModel
from portway.server.models.kept.store import KeptModels
from portway.server.models.kept.types import Kept, KeptModel, KeptProvider
from portway.server.models.prices.types import ListedPrice, PriceTable
from portway.server.models.registry import ModelRegistry
from portway.server.models.types import Keeping, ManagedBy

# How soon a change that another host made is seen here.
LOOK_SECONDS = 5.0

_log = structlog.get_logger()


class ModelDirectory:
    """Call `reload` before the first use and after every change."""

    def __init__(self, host: ModelRegistry, kept: KeptModels, surroundings: Surroundings) -> None:
        self._host = host
        self._kept = kept
        self._surroundings = surroundings
        self._views: dict[str, ModelRegistry] = {}
        self._seen: Mapping[str, Kept] = {}
        self._version: tuple[int, ...] = ()
        self._built: dict[tuple[str, str], tuple[ProviderConfig, Built]] = {}
        self._reloading = asyncio.Lock()

    @property
    def host(self) -> ModelRegistry:
        """What every workspace has."""
        return self._host

    def of(self, workspace_id: str) -> ModelRegistry:
        """The view of a workspace."""
        return self._views.get(workspace_id, self._host)

    def retries(self) -> dict[str, int]:
        """How often calls of each provider were tried again; those of all workspaces together."""
        counts = self._host.retries()
        for (_, provider_id), (_, built) in self._built.items():
            counts[provider_id] = counts.get(provider_id, 0) + built.limited.retry_count
        return counts

    async def reload(self) -> None:
        """Takes over what is kept now. Raises Unavailable, LimitExceeded (database), DataLoss (a key is unreadable)."""
        async with self._reloading:
            self._version = await self._kept.version()
            found = await self._kept.everything()
            changed = {name for name in {*found, *self._seen} if found.get(name) != self._seen.get(name)}
            for workspace_id in changed:
                await self._take(workspace_id, found.get(workspace_id, Kept()))
            self._seen = found

    async def watch(self) -> None:
        """Sees changes of other hosts."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await self._kept.version() != self._version:
                    await self.reload()
            except PortwayError as error:
                _log.warning("models not looked up", reason=error.message)

    async def load(self) -> None:
        """Loads the host's providers ahead of their first use."""
        await self._host.load()

    async def close(self) -> None:
        """Closes every provider."""
        for _, built in self._built.values():
            await built.limited.close()
        await self._host.close()

    async def _take(self, workspace_id: str, kept: Kept) -> None:
        configs = {one.provider_id: _config_of(one, kept) for one in self._own(kept)}
        old = {key for key in self._built if key[0] == workspace_id}
        for provider_id, config in configs.items():
            old.discard((workspace_id, provider_id))
            await self._renew(workspace_id, provider_id, config)
        self._views[workspace_id] = self._view(workspace_id, kept, configs)
        for key in old:
            await self._built.pop(key)[1].limited.retire()

    async def _renew(self, workspace_id: str, provider_id: str, config: ProviderConfig) -> None:
        """The same settings keep their connections and their queue."""
        before = self._built.get((workspace_id, provider_id))
        if before is not None and before[0] == config:
            return
        built = build_provider(provider_id, config, self._surroundings, self._surroundings.outbound)
        self._built[workspace_id, provider_id] = (config, built)
        if before is not None:
            await before[1].limited.retire()

    def _own(self, kept: Kept) -> list[KeptProvider]:
        """Without those whose id the configuration file took since."""
        taken = {info.provider_id for info in self._host.providers()}
        for one in kept.providers:
            if one.provider_id in taken:
                _log.warning("model provider is also in the configuration, which is used", provider=one.provider_id)
        return [one for one in kept.providers if one.provider_id not in taken]

    def _view(self, workspace_id: str, kept: Kept, configs: Mapping[str, ProviderConfig]) -> ModelRegistry:
        models: dict[str, ResolvedModel] = {}
        priced: list[tuple[ProviderConfig, ModelConfig]] = []
        default = ""
        taken = {info.model_id for info in self._host.models()}
        for one in kept.models:
            if one.provider_id not in configs or one.model_id in taken:
                _log.warning("model is also in the configuration, which is used", model=one.model_id)
                continue
            config, built = self._built[workspace_id, one.provider_id]
            model = _model_config(one)
            keeping = Keeping(ManagedBy.API, one.revision, one.create_time, one.update_time)
            models[one.model_id] = resolved_model(one.provider_id, config, model, built.limited, keeping)
            priced.append((config, model))
            default = one.model_id if one.is_default else default
        infos = [
            provider_info(
                one.provider_id,
                configs[one.provider_id],
                Keeping(ManagedBy.API, one.revision, one.create_time, one.update_time),
            )
            for one in kept.providers
            if one.provider_id in configs
        ]
        host = self._host.prices
        built_in = {name: ListedPrice(price, ManagedBy.HOST) for name, price in built_in_prices_of(priced).items()}
        table = PriceTable(host.version, {**built_in, **host.prices}).over(kept.prices.prices, kept.prices.revision)
        return self._host.with_own(models, infos, default, table)


def _config_of(one: KeptProvider, kept: Kept) -> ProviderConfig:
    spec = one.spec
    limits = ProviderLimits(
        concurrency=spec.max_concurrency or ProviderLimits().concurrency,
        requests_per_minute=spec.requests_per_minute or None,
    )
    return ProviderConfig(
        kind=spec.kind,
        base_url=spec.base_url,
        api_key=kept.keys.get(one.provider_id, ""),
        limits=limits,
        disabled=spec.disabled,
    )


def _model_config(one: KeptModel) -> ModelConfig:
    spec = one.spec
    return ModelConfig(
        one.model_id,
        spec.name,
        spec.kind,
        spec.context_window or None,
        spec.max_output_tokens or None,
        spec.capabilities or None,
        spec.dimensions,
        spec.disabled,
    )
