"""One provider of the library: a vendor's SDK with our HTTP client, asked through the library's direct API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import httpx2
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import Model

from portway.server.models.config import ProviderConfig
from portway.server.models.estimate import estimated_tokens
from portway.server.models.library.failures import CAUGHT, FailureReader
from portway.server.models.library.incoming import EventReader, finish_of, usage_of
from portway.server.models.library.outgoing import messages_of, parameters_of, settings_of
from portway.server.models.provider import NOBODY, Embeddings, Ranking, StreamingProvider, TokenCount
from portway.server.models.types import Caller, Completed, ModelEvent, ModelRequest, UsageReported


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a vendor needs to know of one provider. The client belongs to the provider that is made of it."""

    provider_id: str
    config: ProviderConfig
    api_key: str = field(repr=False)
    client: httpx2.AsyncClient


class Vendor(Protocol):
    """What differs between the vendors."""

    @property
    def sdk_error(self) -> type[Exception]:
        """The base class of what the vendor's SDK raises."""

    def chat_model(self, name: str) -> Model:
        """A model by the vendor's name of it."""

    async def embed(self, name: str, texts: Sequence[str], dimensions: int) -> Embeddings | None:
        """Vectors of the texts; `None` where the vendor has no embeddings."""

    async def rerank(self, name: str, query: str, documents: Sequence[str], top_k: int) -> Ranking | None:
        """The documents in order; `None` where the vendor has no reranking."""


class LibraryProvider(StreamingProvider):
    """Keeps no conversation and retries nothing: retries and fallbacks are the caller's."""

    def __init__(self, endpoint: Endpoint, vendor: Vendor) -> None:
        super().__init__(endpoint.provider_id)
        self._vendor = vendor
        self._client = endpoint.client
        self._timeouts = endpoint.config.timeouts
        self._caught = (*CAUGHT, vendor.sdk_error)
        secrets = tuple(text for text in (endpoint.api_key, *endpoint.config.headers.values()) if text)
        self._failures = FailureReader(endpoint.provider_id, secrets)

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        try:
            async with aclosing(self._events(self._vendor.chat_model(model), request)) as events:
                async for event in events:
                    yield event
            return
        except self._caught as error:
            failure = self._failures.read(error, model)
        # Raised here and not above, so that it does not carry the library's error, and with it the key, as its context.
        raise failure

    async def _events(self, model: Model, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        reader = EventReader()
        async with model_request_stream(
            model,
            messages_of(request, self.provider_id, model.system),
            model_settings=settings_of(request, self._timeouts),
            model_request_parameters=parameters_of(request),
            instrument=False,
        ) as stream:
            async for event in stream:
                for one in reader.read(event):
                    yield one
            response = stream.get()
        finish = finish_of(response)
        if finish is None:
            raise self._failures.unfinished(model.model_name)
        yield UsageReported(usage_of(response.usage))
        yield Completed(finish, response.model_name or model.model_name)

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        try:
            embeddings = await self._vendor.embed(model, texts, dimensions)
        except self._caught as error:
            failure = self._failures.read(error, model)
        else:
            return embeddings if embeddings is not None else await super().embed(model, texts)
        raise failure

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        try:
            ranking = await self._vendor.rerank(model, query, documents, top_k)
        except self._caught as error:
            failure = self._failures.read(error, model)
        else:
            return ranking if ranking is not None else await super().rerank(model, query, documents, top_k)
        raise failure

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        chat = self._vendor.chat_model(model)
        try:
            counted = await chat.count_tokens(
                messages_of(request, self.provider_id, chat.system),
                settings_of(request, self._timeouts),
                parameters_of(request),
            )
        except NotImplementedError:
            return TokenCount(estimated_tokens(request), estimated=True)
        except self._caught as error:
            failure = self._failures.read(error, model)
        else:
            return TokenCount(counted.input_tokens, estimated=False)
        raise failure

    async def close(self) -> None:
        await self._client.aclose()
