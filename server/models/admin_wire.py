"""Models and providers as operators see them, in the contract's messages."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from portway.server.models.prices.types import ListedPrice, PriceTable
from portway.server.models.try_out import Trial
from portway.server.models.types import Capability, Keeping, ManagedBy, ModelInfo, ModelKind, ProviderInfo
from portway.server.models.wire import usage_to_wire
from portway.v1 import binding_pb2, model_pb2, run_result_pb2

_TYPES = {
    ModelKind.LLM: model_pb2.MODEL_TYPE_LLM,
    ModelKind.EMBEDDING: model_pb2.MODEL_TYPE_EMBEDDING,
    ModelKind.RERANK: model_pb2.MODEL_TYPE_RERANK,
}
MANAGED_BY = {
    ManagedBy.HOST: binding_pb2.MANAGED_BY_HOST,
    ManagedBy.CONFIG: binding_pb2.MANAGED_BY_CONFIG,
    ManagedBy.API: binding_pb2.MANAGED_BY_API,
}
_MAX_TEXT = 1_000


def model_to_wire(info: ModelInfo, default_model_id: str) -> model_pb2.Model:
    """A model; 0 stands for an unknown context window."""
    return model_pb2.Model(
        model_id=info.model_id,
        provider_id=info.provider_id,
        name=info.name,
        type=_TYPES[info.kind],
        context_window=info.context_window or 0,
        max_output_tokens=info.max_output_tokens or 0,
        dimensions=info.dimensions,
        disabled=info.disabled,
        vision=Capability.IMAGES in info.capabilities,
        tool_calling=Capability.TOOLS in info.capabilities,
        reasoning=Capability.REASONING in info.capabilities,
        is_default=info.model_id == default_model_id,
        **_kept(info.keeping),
    )


def provider_to_wire(info: ProviderInfo) -> model_pb2.ModelProvider:
    """A provider, without its key."""
    return model_pb2.ModelProvider(
        provider_id=info.provider_id,
        kind=info.kind,
        base_url=info.base_url,
        has_api_key=info.has_api_key,
        max_concurrency=info.concurrency,
        requests_per_minute=info.requests_per_minute,
        disabled=info.disabled,
        **_kept(info.keeping),
    )


def price_to_wire(model_id: str, listed: ListedPrice) -> model_pb2.ModelPrice:
    """A price and whose it is."""
    price = listed.price
    return model_pb2.ModelPrice(
        model_id=model_id,
        input_micros=price.input_micros,
        output_micros=price.output_micros,
        cached_input_micros=price.cached_input_micros,
        request_micros=price.request_micros,
        currency=price.currency,
        managed_by=MANAGED_BY[listed.managed_by],
    )


def trial_to_wire(trial: Trial, model_id: str, prices: PriceTable) -> model_pb2.TestModelResponse:
    """How a trial went."""
    response = model_pb2.TestModelResponse(ok=trial.failure is None)
    response.latency.FromMicroseconds(round(trial.seconds * 1e6))
    if trial.usage is not None:
        response.text = trial.text[:_MAX_TEXT]
        response.usage.CopyFrom(usage_to_wire(trial.usage, model_id, prices.cost(model_id, trial.usage)))
    if trial.failure is not None:
        failure = trial.failure
        error = run_result_pb2.RunError(code=str(failure.code), message=failure.message, retryable=failure.retryable)
        response.error.CopyFrom(error)
    return response


def _kept(keeping: Keeping) -> dict[str, Any]:
    kept: dict[str, Any] = {"managed_by": MANAGED_BY[keeping.managed_by], "revision": keeping.revision}
    for name in ("create_time", "update_time"):
        micros = getattr(keeping, name)
        if micros:
            kept[name] = Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
    return kept
