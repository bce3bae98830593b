"""A registry that is connected to a fake model endpoint, and the same answers in both wire formats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind, ProviderTimeouts
from portway.server.models.provider import Provider
from portway.server.models.types import Message, MessageRole, ModelEvent, ModelRequest, TextPart
from tests.fakes.model_api import Answer, FakeModelApi, failure, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, anthropic_frames, openai_frames

MODEL = "fake-model"
KEY = "test-key-0123456789"

QUESTION = ModelRequest((Message(MessageRole.USER, (TextPart("hi"),)),))


@dataclass(frozen=True)
class Connected:
    """A provider of one kind and the endpoint that it asks."""

    kind: ProviderKind
    provider: Provider
    api: FakeModelApi

    def frames(self, answer: WireAnswer) -> list[bytes]:
        """The answer in this provider's wire format, frame by frame."""
        return openai_frames(answer) if self.kind is ProviderKind.OPENAI else anthropic_frames(answer)

    def will(self, answer: WireAnswer) -> None:
        """Prepares a whole answer."""
        self.api.will(Answer(tuple(self.frames(answer))))

    def will_fail(self, status: int, kind: str, message: str, code: str = "", **headers: str) -> None:
        """Prepares a failure in this provider's form."""
        if self.kind is ProviderKind.OPENAI:
            body: dict[str, object] = {"error": {"message": message, "type": kind, "code": code or None}}
        else:
            body = {"type": "error", "error": {"type": kind, "message": message}}
        self.api.will(failure(status, body, **headers))

    async def events(self, request: ModelRequest = QUESTION) -> list[ModelEvent]:
        """The events of one streamed answer."""
        async with aclosing(self.provider.stream(MODEL, request)) as events:
            return [event async for event in events]


@asynccontextmanager
async def connect(
    kind: ProviderKind,
    *,
    key: str = KEY,
    timeouts: ProviderTimeouts | None = None,
    headers: dict[str, str] | None = None,
    max_answer_bytes: int = 1_000_000,
) -> AsyncIterator[Connected]:
    """A provider as the registry builds it; the endpoint takes `KEY` alone."""
    async with serve_fake_model_api(KEY) as api:
        config = ProviderConfig(
            kind,
            (ModelConfig(MODEL),),
            base_url=f"{api.base_url}/v1",
            api_key=key,
            headers=headers or {},
            timeouts=timeouts or ProviderTimeouts(),
            max_answer_bytes=max_answer_bytes,
        )
        registry = build_registry(ModelsConfig(default=MODEL, providers={"main": config}), Surroundings({}))
        try:
            yield Connected(kind, registry.resolve(MODEL).provider, api)
        finally:
            await registry.close()
