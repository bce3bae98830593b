"""What is kept of a provider, a model and a workspace's prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.server.models.prices.types import Price
from portway.server.models.types import Capability, ModelKind
from portway.server.models.vendors import ProviderKind

MAX_PROVIDERS = 100
MAX_MODELS = 1_000


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider without its key. An empty `base_url` is the vendor's own; 0 is the host's limit, and no limit."""

    kind: ProviderKind
    base_url: str = ""
    max_concurrency: int = 0
    requests_per_minute: int = 0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model. 0 and no capabilities leave it to what is known of the vendor's own models."""

    name: str = ""
    kind: ModelKind = ModelKind.LLM
    context_window: int = 0
    max_output_tokens: int = 0
    capabilities: tuple[Capability, ...] = ()
    dimensions: int = 0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class KeptProvider:
    """Times in microseconds."""

    workspace_id: str
    provider_id: str
    revision: int
    spec: ProviderSpec
    create_time: int
    update_time: int


@dataclass(frozen=True, slots=True)
class KeptModel:
    """Times in microseconds."""

    workspace_id: str
    model_id: str
    provider_id: str
    revision: int
    is_default: bool
    spec: ModelSpec
    create_time: int
    update_time: int


@dataclass(frozen=True, slots=True)
class KeptPrices:
    """A workspace's own prices by model; revision 0: it has none."""

    revision: int = 0
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """All that one workspace keeps. `keys` are the providers' keys."""

    providers: tuple[KeptProvider, ...] = ()
    models: tuple[KeptModel, ...] = ()
    prices: KeptPrices = KeptPrices()
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
