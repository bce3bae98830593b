"""A model and those that take its place, as long as nothing has been said yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from portway.server.models.errors import ModelBadRequest, ModelError, PassedOver
from portway.server.models.provider import AnswerBuilder, Provider
from portway.server.models.types import Capability, ModelAnswer, ModelEvent, ModelInfo, ModelRequest


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that can be asked: `name` is what `provider` calls it."""

    info: ModelInfo
    name: str
    provider: Provider


RoutedEvent = ModelEvent | PassedOver


async def stream_with_fallback(
    primary: ResolvedModel, fallbacks: Sequence[ResolvedModel], request: ModelRequest
) -> AsyncGenerator[RoutedEvent, None]:
    """The answer of the first model that gives one. Each model that fails before its first event is reported as
    `PassedOver`, whatever its reason: an operator who names fallbacks wants an answer.

    A failure after the first event is raised as it is, because what was said cannot be taken back here. When every
    model fails, the last failure is raised and names the others in `passed_over`.
    """
    passed_over: list[PassedOver] = []
    for model in (primary, *fallbacks):
        started = False
        try:
            check_ability(model, request)
            async with aclosing(model.provider.stream(model.name, request)) as events:
                async for event in events:
                    started = True
                    yield event
            return
        except ModelError as error:
            failure = error
        if started or model is (fallbacks[-1] if fallbacks else primary):
            failure.passed_over = tuple(passed_over)
            raise failure
        passed = PassedOver(model.info.model_id, failure.code, failure.message, failure.retryable)
        passed_over.append(passed)
        yield passed


def check_ability(model: ResolvedModel, request: ModelRequest) -> None:
    """Raises ModelBadRequest where the request holds what the model is not said to understand."""
    if request.has_images and Capability.IMAGES not in model.info.capabilities:
        raise ModelBadRequest(
            f"model {model.info.model_id!r} does not understand pictures, and the request holds one; leave pictures "
            "out, use a model that does, or add `images` to its capabilities where this is wrong",
            provider_id=model.info.provider_id,
            model_id=model.info.model_id,
        )


async def invoke_with_fallback(
    primary: ResolvedModel, fallbacks: Sequence[ResolvedModel], request: ModelRequest
) -> tuple[ModelAnswer, tuple[PassedOver, ...]]:
    """The whole answer, and the models that were passed over for it."""
    passed_over: list[PassedOver] = []
    builder = AnswerBuilder(primary.provider.provider_id, primary.name)
    async with aclosing(stream_with_fallback(primary, fallbacks, request)) as events:
        async for event in events:
            if isinstance(event, PassedOver):
                passed_over.append(event)
                serving = fallbacks[len(passed_over) - 1]
                builder = AnswerBuilder(serving.provider.provider_id, serving.name)
            elif (answer := builder.add(event)) is not None:
                return answer, tuple(passed_over)
    raise builder.unfinished()
