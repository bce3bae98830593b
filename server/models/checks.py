"""What is wrong with a configuration of models, with the path of each mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from portway.rpc.errors import FieldViolation
from portway.server.models import demo
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig
from portway.server.models.prices.types import Price
from portway.server.models.vendors import VENDORS
from portway.server.outbound.policy import Origin

_PROVIDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


def violations_of(config: ModelsConfig, environ: Mapping[str, str]) -> Iterator[FieldViolation]:
    """Everything that is wrong with the section `models`."""
    owners = {info.model_id: demo.PROVIDER_ID for info in demo.models()}
    for provider_id, one in config.providers.items():
        path = f"models.providers.{provider_id}"
        yield from provider_violations(path, provider_id, one, environ)
        for index, model in enumerate(one.models):
            yield from model_violations(f"{path}.models[{index}]", model, provider_id, owners)
            owners.setdefault(model.id, provider_id)
    if config.default not in owners:
        yield FieldViolation("models.default", f"there is no model {config.default!r}; name one that is configured")
    if config.demo.slow_chunk_seconds < 0:
        yield FieldViolation("models.demo.slow_chunk_seconds", "it must be 0 or more")
    for model_id, price in config.prices.items():
        if model_id not in owners:
            yield FieldViolation(f"models.prices.{model_id}", "there is no such model; name one that is configured")
        yield from price_violations(f"models.prices.{model_id}", price)


def provider_violations(
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


def price_violations(path: str, price: Price) -> Iterator[FieldViolation]:
    """What is wrong with one price."""
    if not _CURRENCY.match(price.currency):
        yield FieldViolation(f"{path}.currency", "a currency is three capital letters, such as USD")
    for name in ("input_micros", "output_micros", "cached_input_micros", "request_micros"):
        if getattr(price, name) < 0:
            yield FieldViolation(f"{path}.{name}", "it must be 0 or more")


def _key_violations(path: str, config: ProviderConfig, environ: Mapping[str, str]) -> Iterator[FieldViolation]:
    if config.api_key and config.api_key_env:
        yield FieldViolation(f"{path}.api_key_env", "api_key is set too; keep one of the two")
    elif config.api_key_env and not environ.get(config.api_key_env):
        yield FieldViolation(f"{path}.api_key_env", f"the environment variable {config.api_key_env!r} is not set")
    elif not (config.base_url or config.api_key or config.api_key_env) and VENDORS[config.kind].needs_key:
        vendor = VENDORS[config.kind].base_url
        yield FieldViolation(f"{path}.api_key", f"{vendor} needs a key; set it, or set base_url")


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
    for name in ("waiting", "retries"):
        if getattr(limits, name) < 0:
            yield FieldViolation(f"{path}.limits.{name}", "it must be 0 or more")


def model_violations(
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
    for name in ("context_window", "max_output_tokens"):
        value = getattr(model, name)
        if value is not None and value <= 0:
            yield FieldViolation(f"{path}.{name}", "it must be more than 0; leave it out when it is unknown")
    if model.dimensions < 0:
        yield FieldViolation(f"{path}.dimensions", "it must be 0 or more")
