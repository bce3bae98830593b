"""Providers behind the network, loaded when they are used for the first time."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from portway.server.models.config import ProviderConfig
from portway.server.models.provider import NOBODY, Embeddings, Ranking, StreamingProvider, TokenCount
from portway.server.models.types import Caller, ModelEvent, ModelRequest
from portway.server.models.vendors import VENDORS, WireFormat
from portway.server.outbound.policy import Origin, OutboundPolicy

if TYPE_CHECKING:
    from portway.server.models.library.provider import LibraryProvider, Vendor

# Longer than any run: the run's own deadline ends a call before this does.
MAX_ANSWER_SECONDS = 3600.0


class RemoteProvider(StreamingProvider):
    """A configured provider. `load` may be called ahead of the first use, so that no message waits for it."""

    def __init__(
        self,
        provider_id: str,
        config: ProviderConfig,
        api_key: str,
        origin: Origin,
        policy: OutboundPolicy,
    ) -> None:
        super().__init__(provider_id)
        self._config = config
        self._api_key = api_key
        self._origin = origin
        self._policy = policy
        self._loading = asyncio.Lock()
        self._loaded: LibraryProvider | None = None

    async def load(self) -> LibraryProvider:
        """Imports the library and the vendor's SDK, in a thread: it takes seconds, and streams must go on meanwhile."""
        async with self._loading:
            if self._loaded is None:
                self._loaded = await asyncio.to_thread(self._build)
            return self._loaded

    def _build(self) -> LibraryProvider:
        # The named lazy seam of model providers: they cost about 2 s and 90 MB, which a host without one never pays.
        from portway.server.models.library.provider import Endpoint, LibraryProvider  # noqa: PLC0415 (lazy seam)
        from portway.server.outbound.client import ClientOptions, open_client  # noqa: PLC0415 (lazy seam)

        waits = self._config.timeouts
        policy = replace(
            self._policy,
            connect_timeout=waits.connect,
            read_timeout=waits.read,
            total_timeout=MAX_ANSWER_SECONDS,
            max_response_bytes=self._config.max_answer_bytes,
        )
        options = ClientOptions(self._origin, self._config.proxy, waits.write, traced=self._config.trace_header)
        client = open_client(policy, options)
        endpoint = Endpoint(self.provider_id, self._config, self._api_key, client)
        vendor: Vendor
        wire = VENDORS[self._config.kind].wire
        match wire:
            case WireFormat.OPENAI:
                from portway.server.models.library.openai import OpenAIVendor  # noqa: PLC0415 (lazy seam)

                vendor = OpenAIVendor(endpoint)
            case WireFormat.ANTHROPIC:
                from portway.server.models.library.anthropic import AnthropicVendor  # noqa: PLC0415 (lazy seam)

                vendor = AnthropicVendor(endpoint)
            case _:
                assert_never(wire)
        _give_back_memory()
        return LibraryProvider(endpoint, vendor)

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        loaded = await self.load()
        async with aclosing(loaded.stream(model, request)) as events:
            async for event in events:
                yield event

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        return await (await self.load()).embed(model, texts, dimensions=dimensions)

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        return await (await self.load()).rerank(model, query, documents, top_k)

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        return await (await self.load()).count_tokens(model, request)

    async def close(self) -> None:
        async with self._loading:
            if self._loaded is not None:
                await self._loaded.close()


def _give_back_memory() -> None:
    """Imports leave about 8 MB of free heap that glibc keeps; other C libraries have no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
