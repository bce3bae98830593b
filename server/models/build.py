"""From the configuration to the registry, with every mistake named at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput
from portway.server.models import demo
from portway.server.models.checks import violations_of
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig
from portway.server.models.fallback import ResolvedModel
from portway.server.models.flow.limited import LimitedProvider
from portway.server.models.flow.rate import RequestsPerMinute, Unlimited
from portway.server.models.known import KnownModel, known_model
from portway.server.models.prices import built_in
from portway.server.models.prices.types import Price, host_table
from portway.server.models.provider import Provider
from portway.server.models.registry import ModelRegistry
from portway.server.models.remote import RemoteProvider
from portway.server.models.types import IN_CONFIG, Capability, Keeping, ModelInfo, ProviderInfo
from portway.server.models.vendors import VENDORS, is_vendors_own
from portway.server.outbound.policy import Origin, OutboundPolicy

_UNKNOWN = frozenset({Capability.TOOLS})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the registry takes from outside of the configuration."""

    environ: Mapping[str, str]
    outbound: OutboundPolicy = OutboundPolicy()
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Built:
    """A provider: itself, and behind its limits, as it is asked."""

    remote: RemoteProvider
    limited: LimitedProvider


def build_registry(config: ModelsConfig, surroundings: Surroundings) -> ModelRegistry:
    """The registry with the demo provider and everything that is configured. Nothing is loaded or contacted yet.

    Errors: `InvalidInput`, whose fields are paths such as `models.providers.main.base_url`.
    """
    violations = list(violations_of(config, surroundings.environ))
    if violations:
        listed = "; ".join(f"{one.field}: {one.description}" for one in violations)
        raise InvalidInput(f"the configuration of models is wrong: {listed}", fields=violations)
    demo_provider = demo.DemoProvider(config.demo)
    models = {info.model_id: ResolvedModel(info, info.model_id, demo_provider) for info in demo.models()}
    providers: list[Provider] = [demo_provider]
    remotes: dict[str, RemoteProvider] = {}
    for provider_id, one in config.providers.items():
        # Who writes the configuration file may name a private address.
        origin = Origin.of(one.base_url or VENDORS[one.kind].base_url)
        built = build_provider(provider_id, one, surroundings, surroundings.outbound.with_private_host(origin.host))
        remotes[provider_id] = built.remote
        providers.append(built.limited)
        models |= {model.id: resolved_model(provider_id, one, model, built.limited) for model in one.models}
    infos = [demo.provider_info()]
    infos += [provider_info(provider_id, one) for provider_id, one in config.providers.items()]
    built_in_prices = built_in_prices_of((one, model) for one in config.providers.values() for model in one.models)
    table = host_table(config.prices, built_in_prices, built_in.VERSION)
    return ModelRegistry(models, infos, providers, remotes, config.default, table)


def build_provider(
    provider_id: str, config: ProviderConfig, surroundings: Surroundings, policy: OutboundPolicy
) -> Built:
    """One provider. Nothing is loaded or contacted yet."""
    origin = Origin.of(config.base_url or VENDORS[config.kind].base_url)
    api_key = config.api_key or surroundings.environ.get(config.api_key_env, "")
    remote = RemoteProvider(provider_id, config, api_key, origin, policy)
    per_minute = config.limits.requests_per_minute
    rate = RequestsPerMinute(per_minute, surroundings.clock) if per_minute else Unlimited()
    return Built(remote, LimitedProvider(remote, config.limits, rate))


def built_in_prices_of(models: Iterable[tuple[ProviderConfig, ModelConfig]]) -> Mapping[str, Price]:
    """What the vendors charge for these models, where they serve them themselves."""
    found = {
        model.id: built_in.built_in_price(config.kind, model.name or model.id)
        for config, model in models
        if is_vendors_own(config.kind, config.base_url)
    }
    return {model_id: price for model_id, price in found.items() if price is not None}


def provider_info(provider_id: str, config: ProviderConfig, keeping: Keeping = IN_CONFIG) -> ProviderInfo:
    """How operators see it."""
    return ProviderInfo(
        provider_id,
        str(config.kind),
        config.base_url or VENDORS[config.kind].base_url,
        bool(config.api_key or config.api_key_env),
        config.limits.concurrency,
        config.limits.requests_per_minute or 0,
        config.disabled,
        keeping,
    )


def resolved_model(
    provider_id: str, config: ProviderConfig, model: ModelConfig, provider: Provider, keeping: Keeping = IN_CONFIG
) -> ResolvedModel:
    """A model that can be asked. What the configuration leaves out is filled in where it is known."""
    name = model.name or model.id
    known = known_model(config.kind, name) if is_vendors_own(config.kind, config.base_url) else None
    info = ModelInfo(
        model_id=model.id,
        name=name,
        provider_id=provider_id,
        provider_kind=str(config.kind),
        kind=model.kind,
        context_window=model.context_window or (known.context_window if known else None),
        capabilities=_capabilities(model, known),
        max_output_tokens=model.max_output_tokens or (known.max_output_tokens if known else None),
        dimensions=model.dimensions,
        disabled=model.disabled or config.disabled,
        keeping=keeping,
    )
    return ResolvedModel(info, name, provider)


def _capabilities(model: ModelConfig, known: KnownModel | None) -> frozenset[Capability]:
    if model.capabilities is not None:
        return frozenset(model.capabilities)
    return known.capabilities if known else _UNKNOWN
