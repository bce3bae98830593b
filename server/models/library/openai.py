"""OpenAI and everything that speaks its Chat Completions format, by the official SDK."""

from __future__ import annotations

from collections.abc import Sequence

from openai import AsyncOpenAI, OpenAIError
from pydantic_ai.embeddings import EmbeddingSettings
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import Provider as LibraryVendor
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from portway.server.models.library.incoming import usage_of
from portway.server.models.library.provider import Endpoint
from portway.server.models.library.rerank import RerankApi
from portway.server.models.provider import Embeddings, Ranking
from portway.server.models.types import Usage
from portway.server.models.vendors import OPENAI_BASE_URL, VENDORS, ProviderKind

# A stream without a finish reason is a stream that somebody cut: never a whole answer.
_PROFILE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)


class OpenAIVendor:
    """The vendor's own service, or another one that the library treats by what it knows of the model's name."""

    sdk_error: type[Exception] = OpenAIError

    def __init__(self, endpoint: Endpoint) -> None:
        facts = VENDORS[endpoint.config.kind]
        base_url = endpoint.config.base_url or facts.base_url
        sdk = AsyncOpenAI(
            base_url=base_url,
            # Given in any case: the SDK would take one from the environment and send it to whatever base_url is.
            api_key=endpoint.api_key or "none",
            organization="",
            project="",
            default_headers=dict(endpoint.config.headers),
            http_client=endpoint.client,
            max_retries=0,
        )
        self._provider: LibraryVendor[AsyncOpenAI]
        if endpoint.config.kind is ProviderKind.OLLAMA:
            self._provider = OllamaProvider(openai_client=sdk)
        elif base_url.rstrip("/") == OPENAI_BASE_URL:
            self._provider = OpenAIProvider(openai_client=sdk)
        else:
            self._provider = OpenAICompatibleProvider(endpoint.provider_id, openai_client=sdk)
        self._batch = facts.embedding_batch
        self._rerank = RerankApi(endpoint, base_url)

    def chat_model(self, name: str) -> Model:
        return OpenAIChatModel(name, provider=self._provider, profile=_PROFILE)

    async def embed(self, name: str, texts: Sequence[str], dimensions: int) -> Embeddings | None:
        model = OpenAIEmbeddingModel(name, provider=self._provider)
        settings = EmbeddingSettings(dimensions=dimensions) if dimensions else EmbeddingSettings()
        vectors: list[tuple[float, ...]] = []
        used: list[int | None] = []
        for begin in range(0, len(texts), self._batch):
            some = list(texts[begin : begin + self._batch])
            result = await model.embed(some, input_type="document", settings=settings)
            if len(result.embeddings) != len(some):
                raise ValueError(f"{len(result.embeddings)} vectors came for {len(some)} texts")
            vectors += (tuple(vector) for vector in result.embeddings)
            used.append(usage_of(result.usage).input_tokens)
        known = [one for one in used if one is not None]
        return Embeddings(tuple(vectors), Usage(sum(known) if len(known) == len(used) else None, output_tokens=0))

    async def rerank(self, name: str, query: str, documents: Sequence[str], top_k: int) -> Ranking | None:
        return await self._rerank.rerank(name, query, documents, top_k)
