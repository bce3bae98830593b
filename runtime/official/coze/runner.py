"""The runner that asks a bot of Coze."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from portway.runtime.official.coze.chat import NAME, Chat
from portway.runtime.official.coze.settings import CODES, NOT_FOUND, Settings, read_settings
from portway.runtime.sdk import AgentRunner, HostApi, RunContext, RunResult
from portway.runtime.sdk.service import (
    Answer,
    Conversation,
    File,
    Json,
    Memory,
    Service,
    ServiceFailure,
    ended,
    open_service,
    person_of,
    read_attachments,
)
from portway.runtime.sdk.service.reading import object_at, objects_at, text_at

_KINDS = {"image": "image", "audio": "audio"}


def is_forgotten(failure: ServiceFailure) -> bool:
    """Whether Coze has no such conversation."""
    return failure.vendor_code == NOT_FOUND


class Coze(AgentRunner):
    """One message, one chat at Coze, in the conversation that it keeps for this person here."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": f"Bearer {settings.api_key}"}
        async with open_service(
            NAME, settings.service, headers=headers, secrets=(settings.api_key,), codes=CODES
        ) as service:
            talk = _Talk(ctx, host, service, settings)
            async with aclosing(service.told(talk.results(), talk.stop)) as results:
                async for result in results:
                    yield result


class _Talk:
    def __init__(self, ctx: RunContext, host: HostApi, service: Service, settings: Settings) -> None:
        self._ctx = ctx
        self._host = host
        self._service = service
        self._settings = settings
        self._answer = Answer(NAME)
        self._chat = Chat(service, settings, self._answer)
        self._user = person_of(ctx)
        belongs_to = (settings.service.base_url, settings.bot_id, self._user)
        self._conversation = Conversation(Memory(host, "coze", "conversation", *belongs_to), is_forgotten)

    async def results(self) -> AsyncGenerator[RunResult, None]:
        body = await self._body()

        def ask(conversation_id: str) -> AsyncGenerator[RunResult, None]:
            return self._ask(body, conversation_id)

        async with aclosing(self._conversation.results(ask)) as results:
            async for result in results:
                yield result
        if not self._chat.complete:
            raise self._service.bad("the stream ended before the answer did")
        for result in self._chat.follow_ups():
            yield result
        async for result in ended(self._service, self._host, self._answer):
            yield result

    async def stop(self) -> None:
        """Ends what goes on at Coze where the run ended before it."""
        chat = self._chat
        if chat.chat_id and not chat.complete:
            body = {"conversation_id": chat.conversation_id, "chat_id": chat.chat_id}
            await self._service.tell("POST", "/v3/chat/cancel", body)

    async def _body(self) -> Json:
        message = {"role": "user", "type": "question", **await self._content()}
        body: Json = {
            "bot_id": self._settings.bot_id,
            "user_id": self._user,
            "stream": self._settings.streaming,
            # The conversation is kept there; nothing else can be polled either.
            "auto_save_history": True,
            "additional_messages": [message],
        }
        if self._settings.variables:
            body["custom_variables"] = dict(self._settings.variables)
        return body

    async def _content(self) -> dict[str, str]:
        text = self._ctx.input.text
        files = await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes)
        if not files:
            return {"content": text, "content_type": "text"}
        parts: list[dict[str, str]] = [{"type": "text", "text": text}] if text else []
        for file in files:
            answer = await self._service.upload("/v1/files/upload", File("file", file.name, file.mime_type, file.data))
            self._check(answer)
            file_id = text_at(answer, "data", "id")
            if not file_id:
                raise self._service.bad("the upload of a file has no id")
            parts.append({"type": _KINDS.get(file.kind, "file"), "file_id": file_id})
        return {"content": json.dumps(parts, ensure_ascii=False), "content_type": "object_string"}

    async def _ask(self, body: Json, conversation_id: str) -> AsyncGenerator[RunResult, None]:
        params = {"conversation_id": conversation_id} if conversation_id else {}
        async with self._service.request("POST", "/v3/chat", body=body, params=params) as reply:
            # A refusal is JSON with a good status, also where a stream was asked for.
            if reply.content_type == "application/json" or not self._settings.streaming:
                document = await reply.json()
                self._check(document)
                if self._settings.streaming:
                    raise self._service.bad("it is JSON where a stream of events was expected")
                self._chat.take_state(object_at(document, "data"))
            else:
                async for event in reply.events():
                    for result in self._chat.take(event):
                        yield result
                    await self._remember()
                    if self._chat.complete:
                        return
        if not self._settings.streaming:
            await self._remember()
            async for result in self._poll():
                yield result

    async def _poll(self) -> AsyncIterator[RunResult]:
        params = {"conversation_id": self._chat.conversation_id, "chat_id": self._chat.chat_id}
        if not all(params.values()):
            raise self._service.bad("the chat has no id")
        deadline = time.monotonic() + self._settings.service.total_seconds
        while not self._chat.complete:
            if time.monotonic() > deadline:
                raise ServiceFailure("service.timeout", f"{NAME} had no answer in time; raise total_seconds")
            await asyncio.sleep(self._settings.poll_seconds)
            state = await self._service.get("/v3/chat/retrieve", params=params)
            self._check(state)
            self._chat.take_state(object_at(state, "data"))
        messages = await self._service.get("/v3/chat/message/list", params=params)
        self._check(messages)
        for message in objects_at(messages, "data"):
            for result in self._chat.take_message(message):
                yield result

    async def _remember(self) -> None:
        await self._conversation.keep(self._chat.conversation_id)

    def _check(self, document: dict[str, Any]) -> None:
        code = document.get("code")
        if code is None:
            raise self._service.bad("it has no code")
        if code != 0:
            raise self._service.reported(code, document.get("msg"))
