"""Anthropic and everything that speaks its Messages format, by the official SDK."""

from __future__ import annotations

from collections.abc import Sequence

from anthropic import AnthropicError, AsyncAnthropic
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from portway.server.models.library.provider import Endpoint
from portway.server.models.provider import Embeddings, Ranking
from portway.server.models.vendors import ANTHROPIC_BASE_URL


class AnthropicVendor:
    """The SDK sends the key as a bearer token; a gateway that wants `x-api-key` gets it by `headers`."""

    sdk_error: type[Exception] = AnthropicError

    def __init__(self, endpoint: Endpoint) -> None:
        base_url = endpoint.config.base_url or ANTHROPIC_BASE_URL
        sdk = AsyncAnthropic(
            # The SDK appends /v1 itself; people copy it along with the address.
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            # Given in any case: the SDK would take one from the environment and send it to whatever base_url is.
            api_key=endpoint.api_key or "none",
            default_headers=dict(endpoint.config.headers),
            http_client=endpoint.client,
            max_retries=0,
        )
        self._provider = AnthropicProvider(anthropic_client=sdk)

    def chat_model(self, name: str) -> Model:
        return AnthropicModel(name, provider=self._provider)

    async def embed(self, name: str, texts: Sequence[str], dimensions: int) -> Embeddings | None:
        return None

    async def rerank(self, name: str, query: str, documents: Sequence[str], top_k: int) -> Ranking | None:
        return None
