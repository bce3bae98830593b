"""Asks a model something short, to see whether it is set up right."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from portway.server.models.errors import ModelError, ModelTimeout
from portway.server.models.fallback import ResolvedModel
from portway.server.models.types import Message, MessageRole, ModelAnswer, ModelRequest, TextPart

_SECONDS = 60.0
_QUESTION = ModelRequest(
    (Message(MessageRole.USER, (TextPart("Say hello in one short sentence."),)),), max_output_tokens=200
)


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went: an answer or a failure, and the seconds it took."""

    seconds: float
    answer: ModelAnswer | None = None
    failure: ModelError | None = None


async def try_out(model: ResolvedModel) -> Trial:
    """A failing provider is a result, not an error."""
    begin = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await model.provider.invoke(model.name, _QUESTION)
    except ModelError as error:
        return Trial(time.monotonic() - begin, failure=error)
    except TimeoutError:
        late = f"model {model.info.model_id!r} did not answer within {_SECONDS:.0f} s; see whether its provider is slow"
        failure = ModelTimeout(late, provider_id=model.info.provider_id, model_id=model.name)
        return Trial(time.monotonic() - begin, failure=failure)
    return Trial(time.monotonic() - begin, answer=answer)
