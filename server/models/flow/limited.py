"""One provider as runs ask it: behind its limits, tried again after failures that pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NoReturn, TypeVar

from portway.server.models.config import ProviderLimits
from portway.server.models.errors import ModelError, ModelRateLimited
from portway.server.models.flow.places import FairPlaces
from portway.server.models.flow.rate import RateLimit
from portway.server.models.flow.retry import delay_before_retry
from portway.server.models.provider import NOBODY, Embeddings, Provider, Ranking, TokenCount
from portway.server.models.types import Caller, ModelAnswer, ModelEvent, ModelRequest

# Seconds that a caller is told to wait when too many calls wait already.
_CROWDED_RETRY = 1.0

T = TypeVar("T")


class LimitedProvider:
    """A streamed answer holds its place until it is read to the end or closed. Who has no patience (`Caller`) is
    refused where others would wait for the next minute, and is not tried again."""

    def __init__(
        self,
        inner: Provider,
        limits: ProviderLimits,
        rate: RateLimit,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._rate = rate
        self._pause = pause
        self._places = FairPlaces(limits.concurrency, limits.waiting)
        self._calls = 0
        self._retired = False
        self.retry_count = 0

    @property
    def provider_id(self) -> str:
        return self._inner.provider_id

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        caller, tries = request.caller, 0
        async with self._counted():
            while True:
                tries += 1
                said = False
                async with self._place(model, caller), aclosing(self._inner.stream(model, request)) as events:
                    try:
                        async for event in events:
                            said = True
                            yield event
                        return
                    except ModelError as error:
                        failure = error
                if said:
                    raise failure
                await self._wait_to_retry(failure, tries, caller)

    async def invoke(self, model: str, request: ModelRequest) -> ModelAnswer:
        return await self._call(model, request.caller, lambda: self._inner.invoke(model, request))

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        return await self._call(model, caller, lambda: self._inner.embed(model, texts, dimensions=dimensions))

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        return await self._call(model, caller, lambda: self._inner.rerank(model, query, documents, top_k))

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        return await self._call(model, request.caller, lambda: self._inner.count_tokens(model, request))

    async def close(self) -> None:
        await self._inner.close()

    async def retire(self) -> None:
        """Closes it when the last call that is under way has ended; a new one has its place already."""
        self._retired = True
        if not self._calls:
            await self._inner.close()

    async def _call(self, model: str, caller: Caller, ask: Callable[[], Awaitable[T]]) -> T:
        tries = 0
        async with self._counted():
            while True:
                tries += 1
                async with self._place(model, caller):
                    try:
                        return await ask()
                    except ModelError as error:
                        failure = error
                await self._wait_to_retry(failure, tries, caller)

    async def _wait_to_retry(self, failure: ModelError, tries: int, caller: Caller) -> None:
        delay = delay_before_retry(failure, tries, self._limits.retries, caller.patience)
        if delay is None:
            raise failure
        self.retry_count += 1
        await self._pause(delay)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                await self._inner.close()

    @asynccontextmanager
    async def _place(self, model: str, caller: Caller) -> AsyncIterator[None]:
        if self._places.crowded:
            self._refuse(model, "too many calls wait for it already", _CROWDED_RETRY, "concurrency or limits.waiting")
        await self._places.take(caller.lane)
        try:
            # With the place in hand, so that the order of the queue is kept.
            while (wait := self._rate.wait_time()) > 0:
                if wait > caller.patience:
                    self._refuse(model, "its calls of this minute are used up", wait, "requests_per_minute")
                await self._pause(wait)
            yield
        finally:
            self._places.give_back()

    def _refuse(self, model: str, why: str, retry_after: float, setting: str) -> NoReturn:
        raise ModelRateLimited(
            f"provider {self.provider_id!r}: {why}; try again in {retry_after:.1f} s, or raise "
            f"models.providers.{self.provider_id}.limits.{setting}",
            provider_id=self.provider_id,
            model_id=model,
            retry_after=retry_after,
        )
