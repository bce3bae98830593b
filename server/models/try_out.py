"""Asks a model something short, to see whether it is set up right."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import assert_never

from portway.server.models.errors import ModelError, ModelTimeout
from portway.server.models.fallback import ResolvedModel
from portway.server.models.types import Message, MessageRole, ModelKind, ModelRequest, TextPart, Usage

_SECONDS = 60.0
_QUESTION = ModelRequest(
    (Message(MessageRole.USER, (TextPart("Say hello in one short sentence."),)),), max_output_tokens=200
)


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went: an answer or a failure, and the seconds it took."""

    seconds: float
    text: str = ""
    usage: Usage | None = None
    failure: ModelError | None = None


async def try_out(model: ResolvedModel) -> Trial:
    """A failing provider is a result, not an error."""
    begin = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            text, usage = await _ask(model)
    except ModelError as error:
        return Trial(time.monotonic() - begin, failure=error)
    except TimeoutError:
        late = f"model {model.info.model_id!r} did not answer within {_SECONDS:.0f} s; see whether its provider is slow"
        failure = ModelTimeout(late, provider_id=model.info.provider_id, model_id=model.name)
        return Trial(time.monotonic() - begin, failure=failure)
    return Trial(time.monotonic() - begin, text=text, usage=usage)


async def _ask(model: ResolvedModel) -> tuple[str, Usage]:
    match model.info.kind:
        case ModelKind.LLM:
            answer = await model.provider.invoke(model.name, _QUESTION)
            return answer.message.text, answer.usage
        case ModelKind.EMBEDDING:
            made = await model.provider.embed(model.name, ["hello"], dimensions=model.info.dimensions)
            return f"a vector of {len(made.vectors[0])} numbers", made.usage
        case ModelKind.RERANK:
            ranking = await model.provider.rerank(model.name, "hello", ["bye", "hello there"], 1)
            return f"document {ranking.documents[0].index + 1} of 2 fits best", ranking.usage
        case _:
            assert_never(model.info.kind)
