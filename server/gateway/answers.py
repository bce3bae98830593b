"""What the endpoints do with a request."""

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from portway.server.gateway import fields
from portway.server.gateway.naming import granted, meant
from portway.server.gateway.shape import Asked, Shape
from portway.server.gateway.visit import Visit
from portway.server.models.errors import PassedOver
from portway.server.models.types import ModelKind
from portway.server.runner_calls.asking import Answered
from portway.server.runner_calls.models import ModelCalls
from portway.v1 import run_model_pb2

MAX_TEXTS = 256


class Answers:
    """Everything goes through the calls that runners make: the same checks, budgets, limits and records."""

    def __init__(self, models: ModelCalls) -> None:
        self._models = models

    async def ask(self, visit: Visit, shape: Shape) -> None:
        """An answer of a language model, streamed where that is asked for."""
        run, asking = visit.run, self._models.asking
        asked = shape.read(visit.body)
        action = "StreamModel" if asked.stream else "InvokeModel"
        run.allow("models_stream" if asked.stream else "models_invoke", action)
        names = meant(run, asking.registry(run), asked.model, action, ModelKind.LLM)
        visit.model_id = names[0]
        models = asking.models(run, names, action)
        writer = shape.writer(asked)
        writer.provider(models[0].provider.provider_id)
        passed = 0
        async with aclosing(asking.ask(run, models, asked.question)) as events:
            async for event in events:
                if isinstance(event, PassedOver):
                    passed += 1
                    writer.provider(models[passed].provider.provider_id)
                    continue
                if isinstance(event, Answered):
                    visit.model_id, visit.usage = event.message.model_id, event.message.usage
                if not asked.stream:
                    if isinstance(event, Answered):
                        await visit.reply.json(writer.whole(event))
                    continue
                if visit.writer is None:
                    visit.writer = writer
                    await visit.reply.pieces(writer.begin())
                pieces = writer.end(event) if isinstance(event, Answered) else writer.piece(event)
                await visit.reply.pieces(pieces)
        if asked.stream:
            await visit.reply.end()

    async def count(self, visit: Visit, shape: Shape) -> None:
        """Anthropic's count of a request's tokens."""
        run, asking = visit.run, self._models.asking
        asked: Asked = shape.read({"max_tokens": 1, **visit.body})
        run.allow("models_count_tokens", "CountTokens")
        names = meant(run, asking.registry(run), asked.model, "CountTokens", ModelKind.LLM)
        visit.model_id = names[0]
        model = asking.models(run, names[:1], "CountTokens")[0]
        found = await model.provider.count_tokens(model.name, asked.question)
        await visit.reply.json({"input_tokens": found.input_tokens})

    async def embed(self, visit: Visit) -> None:
        """OpenAI's embeddings."""
        run, body = visit.run, visit.body
        texts = _texts(body.get("input"))
        coding = fields.text(body, "encoding_format", default="float")
        if coding not in ("float", "base64"):
            raise fields.wrong("encoding_format", "must be float or base64")
        registry = self._models.asking.registry(run)
        wanted = fields.text(body, "model")
        visit.model_id = meant(run, registry, wanted, "EmbedTexts", ModelKind.EMBEDDING)[0]
        request = run_model_pb2.EmbedTextsRequest(model_id=visit.model_id, texts=texts)
        dimensions = fields.count(body, "dimensions")
        if dimensions is not None:
            request.dimensions = dimensions
        found = await self._models.embed_texts(run, request)
        visit.usage = found.usage
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(one.values, coding)}
            for index, one in enumerate(found.embeddings)
        ]
        usage = {"prompt_tokens": found.usage.input_tokens, "total_tokens": found.usage.input_tokens}
        await visit.reply.json({"object": "list", "data": data, "model": wanted, "usage": usage})

    async def models_of_openai(self, visit: Visit) -> None:
        """The models of the run."""
        every = [*granted(visit.run), *granted(visit.run, ModelKind.EMBEDDING)]
        created = int(time.time())
        data = [
            {"id": one.model_id, "object": "model", "created": created, "owned_by": one.provider_id} for one in every
        ]
        await visit.reply.json({"object": "list", "data": data})

    async def models_of_anthropic(self, visit: Visit) -> None:
        """The models of the run."""
        data: list[Mapping[str, Any]] = [
            {
                "type": "model",
                "id": one.model_id,
                "display_name": one.model_id,
                "created_at": "1970-01-01T00:00:00Z",
            }
            for one in granted(visit.run)
        ]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        await visit.reply.json({"data": data, "has_more": False, **ends})


def _texts(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else list(fields.a_list(value, "input"))
    if not texts or len(texts) > MAX_TEXTS or not all(isinstance(one, str) for one in texts):
        raise fields.wrong("input", f"must be a text, or a list of 1 to {MAX_TEXTS} texts")
    return texts


def _vector(values: Any, coding: str) -> object:
    if coding == "float":
        return list(values)
    return fields.base64_floats(values)
