"""Which providers and models there are: what the operator writes in the section `models` of the configuration.

Fields whose metadata says `secret` are never shown, logged or returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.server.models.prices.types import Price
from portway.server.models.types import Capability, ModelKind
from portway.server.models.vendors import ProviderKind

__all__ = ["ModelConfig", "ModelsConfig", "ProviderConfig", "ProviderKind", "ProviderLimits", "ProviderTimeouts"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model. `id` is what agents name; `name` is what the provider calls it, the same if empty.

    What is left out (`None`) is taken from what is known of the vendor's own models; of others nothing is known but
    that they call tools. `dimensions` is asked of a model that makes vectors; 0 leaves it to the provider.
    """

    id: str
    name: str = ""
    kind: ModelKind = ModelKind.LLM
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: tuple[Capability, ...] | None = None
    dimensions: int = 0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What this host sends to one provider at most. More than `waiting` waiting calls are refused at once.

    `retries`: how often a call that failed before it said anything is tried again.
    """

    concurrency: int = 32
    waiting: int = 256
    requests_per_minute: int | None = None
    retries: int = 2


@dataclass(frozen=True, slots=True)
class ProviderTimeouts:
    """Seconds. `read` is the longest silence within an answer; the whole call is bounded by the run's deadline."""

    connect: float = 10.0
    read: float = 120.0
    write: float = 30.0


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One endpoint. An empty `base_url` means the vendor's own; one that is set may be private: the operator says so.

    The key comes from `api_key` or from the environment variable that `api_key_env` names. `headers` are sent with
    every request, for gateways with a header of their own. `proxy` is used for this provider alone; the proxy
    variables of the environment are not read. `trace_header` sends it the W3C `traceparent` of each call: for gateways
    of one's own.
    """

    kind: ProviderKind
    models: tuple[ModelConfig, ...] = ()
    base_url: str = ""
    api_key: str = field(default="", repr=False, metadata={"secret": True})
    api_key_env: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})
    proxy: str = field(default="", repr=False, metadata={"secret": True})
    limits: ProviderLimits = ProviderLimits()
    timeouts: ProviderTimeouts = ProviderTimeouts()
    max_answer_bytes: int = 64 * 1024 * 1024
    disabled: bool = False
    trace_header: bool = False


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """The built-in demo provider: the pause of `demo-slow` before each chunk."""

    slow_chunk_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """The whole section. `default` is the model of agents that name none; providers are keyed by their id, prices by
    the id of their model."""

    default: str = "demo"
    providers: Mapping[str, ProviderConfig] = field(default_factory=dict)
    demo: DemoConfig = DemoConfig()
    prices: Mapping[str, Price] = field(default_factory=dict)
