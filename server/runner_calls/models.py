"""Models of a run: asked through the host, measured, with fallbacks, streamed in packs."""

import asyncio
import dataclasses
from contextlib import aclosing

from portway.rpc.errors import InvalidInput
from portway.server.models.registry import WorkspaceModels
from portway.server.models.types import ModelKind, ModelRequest
from portway.server.models.wire import DeltaWriter, pictures_of, request_from_wire
from portway.server.runner_calls.artifacts import ArtifactCalls
from portway.server.runner_calls.asking import Answered, Asking, Pieces, caller_of
from portway.server.runner_calls.bill import billed
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.scope import RunScope
from portway.server.storage_engine.blobs import Blobs
from portway.server.switches.directory import KillSwitches
from portway.v1 import run_model_pb2 as pb

MAX_DELTAS = 64
MAX_PICTURE_BYTES = 10 * 1024 * 1024
# Deltas that wait for a slow runner: the model is read no faster than this.
WAITING_DELTAS = 4096


class ModelCalls:
    """InvokeModel, StreamModel, RerankDocuments, EmbedTexts, CountTokens."""

    def __init__(self, models: WorkspaceModels, artifacts: ArtifactCalls, blobs: Blobs, switches: KillSwitches) -> None:
        self.asking = Asking(models, switches)
        self._artifacts = artifacts
        self._blobs = blobs

    async def invoke_model(self, run: RunScope, request: pb.InvokeModelRequest) -> pb.InvokeModelResponse:
        run.allow("models_invoke", "InvokeModel")
        models = self.asking.models(run, _names(request.request), "InvokeModel")
        question = await self._question(run, request.request)
        async with run.in_time(), aclosing(self.asking.ask(run, models, question)) as events:
            async for event in events:
                if isinstance(event, Answered):
                    return pb.InvokeModelResponse(answer=event.message)
        raise AssertionError("what is asked is answered, or fails")

    async def stream_model(self, run: RunScope, request: pb.StreamModelRequest, emit: Emit) -> None:
        run.allow("models_stream", "StreamModel")
        models = self.asking.models(run, _names(request.request), "StreamModel")
        question = await self._question(run, request.request)
        async with run.in_time():
            await _Streaming(emit).run(self.asking.ask(run, models, question))

    async def embed_texts(self, run: RunScope, request: pb.EmbedTextsRequest) -> pb.EmbedTextsResponse:
        run.allow("models_embed", "EmbedTexts")
        model = self.asking.one(run, request.model_id, "EmbedTexts", ModelKind.EMBEDDING)
        dimensions = request.dimensions or model.info.dimensions
        async with billed(run, request.model_id, request.texts) as bill, run.in_time():
            found = await model.provider.embed(
                model.name, list(request.texts), dimensions=dimensions, caller=caller_of(run)
            )
            usage = self.asking.used(run, request.model_id, found.usage)
            bill.measured(usage)
        return pb.EmbedTextsResponse(embeddings=[pb.Embedding(values=one) for one in found.vectors], usage=usage)

    async def rerank_documents(self, run: RunScope, request: pb.RerankDocumentsRequest) -> pb.RerankDocumentsResponse:
        run.allow("models_rerank", "RerankDocuments")
        model = self.asking.one(run, request.model_id, "RerankDocuments", ModelKind.RERANK)
        texts = [request.query, *request.documents]
        async with billed(run, request.model_id, texts) as bill, run.in_time():
            found = await model.provider.rerank(
                model.name, request.query, list(request.documents), request.top_k, caller=caller_of(run)
            )
            usage = self.asking.used(run, request.model_id, found.usage)
            bill.measured(usage)
        scores = [pb.RerankScore(index=one.index, score=one.score) for one in found.documents]
        return pb.RerankDocumentsResponse(scores=scores, usage=usage)

    async def count_tokens(self, run: RunScope, request: pb.CountTokensRequest) -> pb.CountTokensResponse:
        run.allow("models_count_tokens", "CountTokens")
        model = self.asking.models(run, _names(request.request), "CountTokens")[0]
        question = await self._question(run, request.request)
        async with run.in_time():
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
        return dataclasses.replace(request_from_wire(request, pictures), caller=caller_of(run))


class _Streaming:
    """One streamed answer: one task reads the model, the other sends what has collected."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._deltas: list[pb.ModelDelta] = []
        self._answer: pb.ModelAnswer | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def run(self, pieces: Pieces) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(pieces))
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

    async def _read(self, pieces: Pieces) -> None:
        writer = DeltaWriter()
        async with aclosing(pieces) as events:
            async for event in events:
                if isinstance(event, Answered):
                    self._answer = event.message
                    self._wake.set()
                    return
                delta = writer.write(event)
                if delta is not None:
                    self._deltas.append(delta)
                    self._wake.set()
                    if len(self._deltas) >= WAITING_DELTAS:
                        self._room.clear()
                        await self._room.wait()


def _names(request: pb.ModelRequest) -> tuple[str, ...]:
    return request.model_id, *request.fallback_model_ids
