"""Models of a run: asked through the host, measured, with fallbacks, streamed in packs."""

import asyncio
import dataclasses
from collections.abc import Sequence
from contextlib import aclosing

from portway.rpc.errors import InvalidInput
from portway.server.models.errors import PassedOver
from portway.server.models.fallback import ResolvedModel, invoke_with_fallback, stream_with_fallback
from portway.server.models.provider import AnswerBuilder
from portway.server.models.registry import ModelRegistry, WorkspaceModels
from portway.server.models.types import Caller, ModelAnswer, ModelKind, ModelRequest, Usage
from portway.server.models.wire import DeltaWriter, answer_to_wire, pictures_of, request_from_wire, usage_to_wire
from portway.server.runner_calls.artifacts import ArtifactCalls
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.scope import RunScope
from portway.server.storage_engine.blobs import Blobs
from portway.v1 import run_model_pb2 as pb
from portway.v1 import usage_pb2

MAX_DELTAS = 64
MAX_PICTURE_BYTES = 10 * 1024 * 1024
# Deltas that wait for a slow runner: the model is read no faster than this.
WAITING_DELTAS = 4096


class ModelCalls:
    """InvokeModel, StreamModel, RerankDocuments, EmbedTexts, CountTokens."""

    def __init__(self, models: WorkspaceModels, artifacts: ArtifactCalls, blobs: Blobs) -> None:
        self._all = models
        self._artifacts = artifacts
        self._blobs = blobs

    async def invoke_model(self, run: RunScope, request: pb.InvokeModelRequest) -> pb.InvokeModelResponse:
        run.allow("models_invoke", "InvokeModel")
        registry = self._all.of(run.workspace_id)
        models = _models(run, request.request, "InvokeModel", registry)
        run.spend_call()
        question = await self._question(run, request.request)
        async with asyncio.timeout(run.time_left()):
            answer, passed_over = await invoke_with_fallback(models[0], models[1:], question)
        return pb.InvokeModelResponse(answer=_measured(run, registry, models, answer, passed_over))

    async def stream_model(self, run: RunScope, request: pb.StreamModelRequest, emit: Emit) -> None:
        run.allow("models_stream", "StreamModel")
        registry = self._all.of(run.workspace_id)
        models = _models(run, request.request, "StreamModel", registry)
        run.spend_call()
        question = await self._question(run, request.request)
        async with asyncio.timeout(run.time_left()):
            await _Streaming(run, registry, models, emit).run(question)

    async def embed_texts(self, run: RunScope, request: pb.EmbedTextsRequest) -> pb.EmbedTextsResponse:
        run.allow("models_embed", "EmbedTexts")
        registry = self._all.of(run.workspace_id)
        model = _one(run, request.model_id, "EmbedTexts", registry, ModelKind.EMBEDDING)
        run.spend_call()
        dimensions = request.dimensions or model.info.dimensions
        async with asyncio.timeout(run.time_left()):
            found = await model.provider.embed(
                model.name, list(request.texts), dimensions=dimensions, caller=_caller(run)
            )
        usage = _used(run, registry, request.model_id, found.usage)
        return pb.EmbedTextsResponse(embeddings=[pb.Embedding(values=one) for one in found.vectors], usage=usage)

    async def rerank_documents(self, run: RunScope, request: pb.RerankDocumentsRequest) -> pb.RerankDocumentsResponse:
        run.allow("models_rerank", "RerankDocuments")
        registry = self._all.of(run.workspace_id)
        model = _one(run, request.model_id, "RerankDocuments", registry, ModelKind.RERANK)
        run.spend_call()
        async with asyncio.timeout(run.time_left()):
            found = await model.provider.rerank(
                model.name, request.query, list(request.documents), request.top_k, caller=_caller(run)
            )
        usage = _used(run, registry, request.model_id, found.usage)
        scores = [pb.RerankScore(index=one.index, score=one.score) for one in found.documents]
        return pb.RerankDocumentsResponse(scores=scores, usage=usage)

    async def count_tokens(self, run: RunScope, request: pb.CountTokensRequest) -> pb.CountTokensResponse:
        run.allow("models_count_tokens", "CountTokens")
        model = _models(run, request.request, "CountTokens", self._all.of(run.workspace_id))[0]
        question = await self._question(run, request.request)
        async with asyncio.timeout(run.time_left()):
            count = await model.provider.count_tokens(model.name, question)
        return pb.CountTokensResponse(input_tokens=count.input_tokens, estimated=count.estimated)

    async def _question(self, run: RunScope, request: pb.ModelRequest) -> ModelRequest:
        rules = self._artifacts.rules(run)
        pictures: dict[str, bytes] = {}
        for ref in pictures_of(request):
            if ref.artifact_id in pictures:
                continue
            artifact = await rules.reach(ref.artifact_id, "StreamModel")
            if artifact.size > MAX_PICTURE_BYTES:
                raise InvalidInput.field(
                    "request.messages", f"a picture has {artifact.size} bytes, too many for a model"
                )
            pictures[ref.artifact_id] = await self._blobs.read(run.workspace_id, artifact.sha256, 0, artifact.size)
        return dataclasses.replace(request_from_wire(request, pictures), caller=_caller(run))


class _Streaming:
    """One streamed answer: one task reads the model, the other sends what has collected."""

    def __init__(self, run: RunScope, registry: ModelRegistry, models: Sequence[ResolvedModel], emit: Emit) -> None:
        self._run = run
        self._registry = registry
        self._models = models
        self._emit = emit
        self._deltas: list[pb.ModelDelta] = []
        self._answer: pb.ModelAnswer | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def run(self, question: ModelRequest) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(question))
            await self._send()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._deltas:
                pack, self._deltas = self._deltas[:MAX_DELTAS], self._deltas[MAX_DELTAS:]
                if not self._deltas:
                    self._room.set()
                last = self._answer is not None and not self._deltas
                response = pb.StreamModelResponse(deltas=pack, answer=self._answer if last else None)
                await self._emit(response, last)
                if last:
                    return
            if self._answer is not None:
                await self._emit(pb.StreamModelResponse(answer=self._answer), True)
                return

    async def _read(self, question: ModelRequest) -> None:
        models, passed_over = self._models, list[PassedOver]()
        writer = DeltaWriter()
        builder = AnswerBuilder(models[0].provider.provider_id, models[0].name)
        async with aclosing(stream_with_fallback(models[0], models[1:], question)) as events:
            async for event in events:
                delta = writer.write(event)
                if delta is not None:
                    self._deltas.append(delta)
                    self._wake.set()
                    if len(self._deltas) >= WAITING_DELTAS:
                        self._room.clear()
                        await self._room.wait()
                if isinstance(event, PassedOver):
                    passed_over.append(event)
                    serving = models[len(passed_over)]
                    builder = AnswerBuilder(serving.provider.provider_id, serving.name)
                elif (answer := builder.add(event)) is not None:
                    self._answer = _measured(self._run, self._registry, models, answer, passed_over)
                    self._wake.set()
                    return
        raise builder.unfinished()


def _models(run: RunScope, request: pb.ModelRequest, action: str, registry: ModelRegistry) -> Sequence[ResolvedModel]:
    names = (request.model_id, *request.fallback_model_ids)
    return [_one(run, name, action, registry, ModelKind.LLM) for name in names]


def _one(run: RunScope, model_id: str, action: str, registry: ModelRegistry, kind: ModelKind) -> ResolvedModel:
    if model_id not in run.snapshot.models:
        raise run.missing(action, "model", model_id)
    return registry.resolve(model_id, kind)


def _caller(run: RunScope) -> Caller:
    return Caller(lane=run.run_id, patience=run.time_left())


def _measured(
    run: RunScope,
    registry: ModelRegistry,
    models: Sequence[ResolvedModel],
    answer: ModelAnswer,
    passed_over: Sequence[PassedOver],
) -> pb.ModelAnswer:
    model_id = models[len(passed_over)].info.model_id
    message = answer_to_wire(answer, model_id, passed_over, registry.prices.cost(model_id, answer.usage))
    run.usage.measured(message.usage)
    for passed in passed_over:
        run.note("model.passed_over", passed.model_id, f"{passed.code}; answered by {model_id}")
    return message


def _used(run: RunScope, registry: ModelRegistry, model_id: str, usage: Usage) -> usage_pb2.Usage:
    message = usage_to_wire(usage, model_id, registry.prices.cost(model_id, usage))
    run.usage.measured(message)
    return message
