"""Models and providers as operators see them, in the contract's messages."""

from __future__ import annotations

from portway.server.models import demo
from portway.server.models.try_out import Trial
from portway.server.models.types import Capability, ModelInfo, ModelKind, ProviderInfo
from portway.server.models.wire import usage_to_wire
from portway.v1 import binding_pb2, model_pb2, run_result_pb2

_TYPES = {
    ModelKind.LLM: model_pb2.MODEL_TYPE_LLM,
    ModelKind.EMBEDDING: model_pb2.MODEL_TYPE_EMBEDDING,
    ModelKind.RERANK: model_pb2.MODEL_TYPE_RERANK,
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
        vision=Capability.IMAGES in info.capabilities,
        tool_calling=Capability.TOOLS in info.capabilities,
        reasoning=Capability.REASONING in info.capabilities,
        is_default=info.model_id == default_model_id,
        managed_by=_keeper(info.provider_id),
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
        managed_by=_keeper(info.provider_id),
    )


def trial_to_wire(trial: Trial, model_id: str) -> model_pb2.TestModelResponse:
    """How a trial went."""
    response = model_pb2.TestModelResponse(ok=trial.answer is not None)
    response.latency.FromMicroseconds(round(trial.seconds * 1e6))
    if trial.answer is not None:
        response.text = trial.answer.message.text[:_MAX_TEXT]
        response.usage.CopyFrom(usage_to_wire(trial.answer.usage, model_id))
    if trial.failure is not None:
        failure = trial.failure
        error = run_result_pb2.RunError(code=str(failure.code), message=failure.message, retryable=failure.retryable)
        response.error.CopyFrom(error)
    return response


def _keeper(provider_id: str) -> binding_pb2.ManagedBy.ValueType:
    return binding_pb2.MANAGED_BY_HOST if provider_id == demo.PROVIDER_ID else binding_pb2.MANAGED_BY_CONFIG
