"""From the contract's messages to drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.server.models.kept.manage import ModelDraft, ProviderDraft
from portway.server.models.kept.types import ModelSpec, ProviderSpec
from portway.server.models.prices.types import Price
from portway.server.models.types import Capability, ModelKind
from portway.server.models.vendors import ProviderKind
from portway.v1 import model_pb2

_KINDS = {
    model_pb2.MODEL_TYPE_UNSPECIFIED: ModelKind.LLM,
    model_pb2.MODEL_TYPE_LLM: ModelKind.LLM,
    model_pb2.MODEL_TYPE_EMBEDDING: ModelKind.EMBEDDING,
    model_pb2.MODEL_TYPE_RERANK: ModelKind.RERANK,
}


def provider_draft(message: model_pb2.ModelProvider, *, remove_api_key: bool = False) -> ProviderDraft:
    """Raises InvalidInput (kind)."""
    if message.kind not in set(ProviderKind):
        raise InvalidInput.field("model_provider.kind", f"must be one of {', '.join(ProviderKind)}")
    spec = ProviderSpec(
        ProviderKind(message.kind),
        message.base_url,
        message.max_concurrency,
        message.requests_per_minute,
        message.disabled,
    )
    return ProviderDraft(message.provider_id, spec, message.api_key, message.revision, remove_api_key)


def model_draft(message: model_pb2.Model) -> ModelDraft:
    """A model without any ability named has those that are known of it."""
    abilities = {
        Capability.TOOLS: message.tool_calling,
        Capability.IMAGES: message.vision,
        Capability.REASONING: message.reasoning,
    }
    spec = ModelSpec(
        name=message.name,
        kind=_KINDS[message.type],
        context_window=message.context_window,
        max_output_tokens=message.max_output_tokens,
        capabilities=tuple(name for name, has in abilities.items() if has),
        dimensions=message.dimensions,
        disabled=message.disabled,
    )
    return ModelDraft(message.model_id, message.provider_id, spec, message.is_default, message.revision)


def prices_from_wire(messages: Sequence[model_pb2.ModelPrice]) -> Mapping[str, Price]:
    """By model. Raises InvalidInput where a model comes twice."""
    prices: dict[str, Price] = {}
    twice: list[FieldViolation] = []
    for index, one in enumerate(messages):
        if one.model_id in prices:
            twice.append(FieldViolation(f"prices[{index}].model_id", f"{one.model_id!r} has a price already"))
        prices[one.model_id] = Price(
            one.input_micros, one.output_micros, one.cached_input_micros, one.request_micros, one.currency or "USD"
        )
    if twice:
        raise InvalidInput("a model has one price", fields=twice)
    return prices
