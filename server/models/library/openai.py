"""OpenAI and everything that speaks its Chat Completions format, by the official SDK."""

from __future__ import annotations

from collections.abc import Sequence

from openai import AsyncOpenAI, OpenAIError
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from portway.server.models.library.incoming import usage_of
from portway.server.models.library.provider import Endpoint
from portway.server.models.provider import Embeddings
from portway.server.models.vendors import OPENAI_BASE_URL

# A stream without a finish reason is a stream that somebody cut: never a whole answer.
_PROFILE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)


class OpenAIVendor:
    """The vendor's own service, or another one that the library treats by what it knows of the model's name."""

    sdk_error: type[Exception] = OpenAIError

    def __init__(self, endpoint: Endpoint) -> None:
        base_url = endpoint.config.base_url or OPENAI_BASE_URL
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
        self._provider: OpenAIProvider | OpenAICompatibleProvider
        if base_url.rstrip("/") == OPENAI_BASE_URL:
            self._provider = OpenAIProvider(openai_client=sdk)
        else:
            self._provider = OpenAICompatibleProvider(endpoint.provider_id, openai_client=sdk)

    def chat_model(self, name: str) -> Model:
        return OpenAIChatModel(name, provider=self._provider, profile=_PROFILE)

    async def embed(self, name: str, texts: Sequence[str]) -> Embeddings | None:
        result = await OpenAIEmbeddingModel(name, provider=self._provider).embed(list(texts), input_type="document")
        return Embeddings(tuple(tuple(vector) for vector in result.embeddings), usage_of(result.usage))
