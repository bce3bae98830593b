"""`host.models`: models of the run. Needs the permissions `models.*`."""

from collections.abc import AsyncIterator

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.convert import read, write
from portway.runtime.sdk.types.models import (
    EmbedAnswer,
    ModelAnswer,
    ModelEvent,
    ModelRequest,
    RerankAnswer,
    TokenCount,
    read_model_delta,
)
from portway.v1 import run_model_pb2 as pb


class Models:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def invoke(self, request: ModelRequest) -> ModelAnswer:
        """A whole answer. Raises `NotFound` for a model outside the run's resources."""
        message = pb.InvokeModelRequest()
        write(request, message.request)
        return read(ModelAnswer, (await self._calls.ask("invoke_model", message)).answer)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Pieces of an answer as they come, then the whole `ModelAnswer`, once and last."""
        message = pb.StreamModelRequest()
        write(request, message.request)
        async for response in self._calls.stream("stream_model", message):
            for raw in response.deltas:
                delta = read_model_delta(raw)
                if delta is not None:
                    yield delta
            if response.HasField("answer"):
                yield read(ModelAnswer, response.answer)

    async def rerank(self, model_id: str, query: str, documents: list[str], *, top_k: int = 0) -> RerankAnswer:
        """Scores of at most 200 texts, best first; all of them if `top_k` is 0."""
        message = pb.RerankDocumentsRequest(model_id=model_id, query=query, documents=documents, top_k=top_k)
        return read(RerankAnswer, await self._calls.ask("rerank_documents", message))

    async def embed(self, model_id: str, texts: list[str]) -> EmbedAnswer:
        """Vectors of at most 256 texts, in their order."""
        message = pb.EmbedTextsRequest(model_id=model_id, texts=texts)
        return read(EmbedAnswer, await self._calls.ask("embed_texts", message))

    async def count_tokens(self, request: ModelRequest) -> TokenCount:
        message = pb.CountTokensRequest()
        write(request, message.request)
        return read(TokenCount, await self._calls.ask("count_tokens", message))
