"""From the configuration to the registry, with every mistake named at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.server.models import demo
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig
from portway.server.models.fallback import ResolvedModel
from portway.server.models.limits import LimitedProvider, RequestsPerMinute, Unlimited
from portway.server.models.provider import Provider
from portway.server.models.registry import ModelRegistry
from portway.server.models.remote import RemoteProvider
from portway.server.models.types import ModelInfo, ProviderInfo
from portway.server.models.vendors import ANTHROPIC_BASE_URL, OPENAI_BASE_URL
from portway.server.outbound.policy import Origin, OutboundPolicy

_PROVIDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_VENDOR_URLS = {"openai": OPENAI_BASE_URL, "anthropic": ANTHROPIC_BASE_URL}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the registry takes from outside of the configuration."""

    environ: Mapping[str, str]
    outbound: OutboundPolicy = OutboundPolicy()
    clock: Callable[[], float] = time.monotonic


def build_registry(config: ModelsConfig, surroundings: Surroundings) -> ModelRegistry:
    """The registry with the demo provider and everything that is configured. Nothing is loaded or contacted yet.

    Errors: `InvalidInput`, whose fields are paths such as `models.providers.main.base_url`.
    """
    violations = list(_violations(config, surroundings.environ))
    if violations:
        listed = "; ".join(f"{one.field}: {one.description}" for one in violations)
        raise InvalidInput(f"the configuration of models is wrong: {listed}", fields=violations)
    demo_provider = demo.DemoProvider(config.demo)
    models = {info.model_id: ResolvedModel(info, info.model_id, demo_provider) for info in demo.models()}
    providers: list[Provider] = [demo_provider]
    remotes: dict[str, RemoteProvider] = {}
    for provider_id, one in config.providers.items():
        remotes[provider_id] = _remote(provider_id, one, surroundings)
        limited = _limited(remotes[provider_id], one, surroundings)
        providers.append(limited)
        models |= {model.id: _resolved(provider_id, one, model, limited) for model in one.models}
    infos = [ProviderInfo(demo.PROVIDER_ID, demo.PROVIDER_ID)]
    infos += [_info(provider_id, one) for provider_id, one in config.providers.items()]
    return ModelRegistry(models, infos, providers, remotes, config.default)


def _info(provider_id: str, config: ProviderConfig) -> ProviderInfo:
    return ProviderInfo(
        provider_id,
        str(config.kind),
        config.base_url or _VENDOR_URLS[config.kind],
        bool(config.api_key or config.api_key_env),
        config.limits.concurrency,
        config.limits.requests_per_minute or 0,
    )


def _remote(provider_id: str, config: ProviderConfig, surroundings: Surroundings) -> RemoteProvider:
    origin = Origin.of(config.base_url or _VENDOR_URLS[config.kind])
    # Who writes the configuration file may name a private address; the demo of a local model needs nothing else.
    policy = surroundings.outbound.with_private_host(origin.host)
    api_key = config.api_key or surroundings.environ.get(config.api_key_env, "")
    return RemoteProvider(provider_id, config, api_key, origin, policy)


def _limited(remote: RemoteProvider, config: ProviderConfig, surroundings: Surroundings) -> LimitedProvider:
    per_minute = config.limits.requests_per_minute
    rate = RequestsPerMinute(per_minute, surroundings.clock) if per_minute else Unlimited()
    return LimitedProvider(remote, config.limits, rate)


def _resolved(provider_id: str, config: ProviderConfig, model: ModelConfig, provider: Provider) -> ResolvedModel:
    name = model.name or model.id
    capabilities = frozenset(model.capabilities)
    info = ModelInfo(model.id, name, provider_id, str(config.kind), model.kind, model.context_window, capabilities)
    return ResolvedModel(info, name, provider)


def _violations(config: ModelsConfig, environ: Mapping[str, str]) -> Iterator[FieldViolation]:
    owners = {info.model_id: demo.PROVIDER_ID for info in demo.models()}
    for provider_id, one in config.providers.items():
        path = f"models.providers.{provider_id}"
        yield from _provider_violations(path, provider_id, one, environ)
        for index, model in enumerate(one.models):
            yield from _model_violations(f"{path}.models[{index}]", model, provider_id, owners)
            owners.setdefault(model.id, provider_id)
    if config.default not in owners:
        yield FieldViolation("models.default", f"there is no model {config.default!r}; name one that is configured")
    if config.demo.slow_chunk_seconds < 0:
        yield FieldViolation("models.demo.slow_chunk_seconds", "it must be 0 or more")


def _provider_violations(
    path: str, provider_id: str, config: ProviderConfig, environ: Mapping[str, str]
) -> Iterator[FieldViolation]:
    if provider_id == demo.PROVIDER_ID:
        yield FieldViolation(path, "this name belongs to the built-in demo provider; choose another")
    if not _PROVIDER_ID.match(provider_id):
        yield FieldViolation(path, "a provider's name has letters, digits, '_', '.' and '-', at most 64")
    if config.base_url:
        try:
            Origin.of(config.base_url)
        except ValueError as error:
            yield FieldViolation(f"{path}.base_url", str(error))
    if not config.models:
        yield FieldViolation(f"{path}.models", "name at least one model, such as [{id: NAME}]")
    yield from _key_violations(path, config, environ)
    yield from _number_violations(path, config)


def _key_violations(path: str, config: ProviderConfig, environ: Mapping[str, str]) -> Iterator[FieldViolation]:
    if config.api_key and config.api_key_env:
        yield FieldViolation(f"{path}.api_key_env", "api_key is set too; keep one of the two")
    elif config.api_key_env and not environ.get(config.api_key_env):
        yield FieldViolation(f"{path}.api_key_env", f"the environment variable {config.api_key_env!r} is not set")
    elif not config.base_url and not config.api_key and not config.api_key_env:
        yield FieldViolation(f"{path}.api_key", f"{_VENDOR_URLS[config.kind]} needs a key; set it, or set base_url")


def _number_violations(path: str, config: ProviderConfig) -> Iterator[FieldViolation]:
    limits, timeouts = config.limits, config.timeouts
    positive = {
        "limits.concurrency": limits.concurrency,
        "limits.requests_per_minute": 1 if limits.requests_per_minute is None else limits.requests_per_minute,
        "timeouts.connect": timeouts.connect,
        "timeouts.read": timeouts.read,
        "timeouts.write": timeouts.write,
        "max_answer_bytes": config.max_answer_bytes,
    }
    for name, value in positive.items():
        if value <= 0:
            yield FieldViolation(f"{path}.{name}", "it must be more than 0")
    if limits.waiting < 0:
        yield FieldViolation(f"{path}.limits.waiting", "it must be 0 or more")


def _model_violations(
    path: str, model: ModelConfig, provider_id: str, owners: Mapping[str, str]
) -> Iterator[FieldViolation]:
    if not model.id or len(model.id) > 256:
        yield FieldViolation(f"{path}.id", "a model's id has 1 to 256 characters")
    elif model.id in owners:
        yield FieldViolation(
            f"{path}.id",
            f"{model.id!r} is a model of provider {owners[model.id]!r} already; choose another id for the one of "
            f"{provider_id!r} and give its name in `name`",
        )
    if model.context_window is not None and model.context_window <= 0:
        yield FieldViolation(f"{path}.context_window", "it must be more than 0; leave it out when it is unknown")
