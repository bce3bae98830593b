"""What this host sends to one provider at most: calls at a time, calls that wait, calls per minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from portway.server.models.config import ProviderLimits
from portway.server.models.errors import ModelRateLimited
from portway.server.models.provider import Embeddings, Provider, Ranking, TokenCount
from portway.server.models.types import ModelAnswer, ModelEvent, ModelRequest

# Seconds that a caller is told to wait when too many calls wait already.
_CROWDED_RETRY = 1.0


class RateLimit(Protocol):
    """Decides about one more call; the seam for limits that several hosts share."""

    def wait_time(self) -> float:
        """0 when the call may go now (and it is counted), else the seconds after which it may."""


class Unlimited:
    """Lets everything through."""

    def wait_time(self) -> float:
        return 0.0


class RequestsPerMinute:
    """A bucket that holds one minute's calls and fills evenly; `clock` counts seconds and never goes back."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._left = self._capacity
        self._seen = clock()

    def wait_time(self) -> float:
        now = self._clock()
        self._left = min(self._capacity, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0


class LimitedProvider:
    """A provider behind its limits. A streamed answer holds its place until it is read to the end or closed."""

    def __init__(self, inner: Provider, limits: ProviderLimits, rate: RateLimit) -> None:
        self._inner = inner
        self._limits = limits
        self._rate = rate
        self._places = asyncio.Semaphore(limits.concurrency)
        self._waiting = 0

    @property
    def provider_id(self) -> str:
        return self._inner.provider_id

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        async with self._place(model), aclosing(self._inner.stream(model, request)) as events:
            async for event in events:
                yield event

    async def invoke(self, model: str, request: ModelRequest) -> ModelAnswer:
        async with self._place(model):
            return await self._inner.invoke(model, request)

    async def embed(self, model: str, texts: Sequence[str]) -> Embeddings:
        async with self._place(model):
            return await self._inner.embed(model, texts)

    async def rerank(self, model: str, query: str, documents: Sequence[str], top_k: int) -> Ranking:
        async with self._place(model):
            return await self._inner.rerank(model, query, documents, top_k)

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        async with self._place(model):
            return await self._inner.count_tokens(model, request)

    async def close(self) -> None:
        await self._inner.close()

    @asynccontextmanager
    async def _place(self, model: str) -> AsyncIterator[None]:
        if self._places.locked() and self._waiting >= self._limits.waiting:
            self._refuse(model, "too many calls wait for it already", _CROWDED_RETRY, "concurrency or limits.waiting")
        wait = self._rate.wait_time()
        if wait > 0:
            self._refuse(model, "its calls of this minute are used up", wait, "requests_per_minute")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _refuse(self, model: str, why: str, retry_after: float, setting: str) -> None:
        raise ModelRateLimited(
            f"provider {self.provider_id!r}: {why}; try again in {retry_after:.1f} s, or raise "
            f"models.providers.{self.provider_id}.limits.{setting}",
            provider_id=self.provider_id,
            model_id=model,
            retry_after=retry_after,
        )
