"""The runner that asks an agent of Ant Tbox."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from portway.runtime.official.tbox.chat import NAME, Chat
from portway.runtime.official.tbox.settings import Settings, read_settings
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
from portway.runtime.sdk.service.reading import text_at

_KINDS = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO", "document": "FILE"}


def is_forgotten(failure: ServiceFailure) -> bool:
    """Whether Tbox has no such conversation. Nothing else that it may not find is named by its id alone."""
    about = failure.detail.lower()
    return failure.code == "service.not_found" or ("conversationid" in about and "无效" in about)


class Tbox(AgentRunner):
    """One message, one chat, in the conversation that Tbox keeps for this person here. Cancelling closes the
    connection; there is nothing else for that."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": settings.api_key}
        async with open_service(NAME, settings.service, headers=headers, secrets=(settings.api_key,)) as service:
            async with aclosing(service.told(_Talk(ctx, host, service, settings).results())) as results:
                async for result in results:
                    yield result


class _Talk:
    def __init__(self, ctx: RunContext, host: HostApi, service: Service, settings: Settings) -> None:
        self._ctx = ctx
        self._host = host
        self._service = service
        self._settings = settings
        self._answer = Answer(NAME, show_references=settings.show_references)
        self._chat = Chat(service, self._answer)
        self._user = person_of(ctx)
        belongs_to = (settings.service.base_url, settings.app_id, self._user)
        self._conversation = Conversation(Memory(host, "tbox", "conversation", *belongs_to), is_forgotten)

    async def results(self) -> AsyncGenerator[RunResult, None]:
        files = await self._upload()

        def ask(conversation_id: str) -> AsyncGenerator[RunResult, None]:
            return self._ask(files, conversation_id)

        async with aclosing(self._conversation.results(ask)) as results:
            async for result in results:
                yield result
        if not self._chat.complete:
            raise self._service.bad("the stream ended before the answer did")
        async for result in ended(self._service, self._host, self._answer):
            yield result

    async def _ask(self, files: list[dict[str, str]], conversation_id: str) -> AsyncGenerator[RunResult, None]:
        body: Json = {
            "appId": self._settings.app_id,
            "query": self._ctx.input.text or "(a file)",
            "userId": self._user,
            "stream": self._settings.streaming,
        }
        if self._settings.search_engine:
            body["searchEngine"] = True
        if conversation_id:
            body["conversationId"] = conversation_id
        if files:
            body["files"] = files
        headers = {"accept": "text/event-stream" if self._settings.streaming else "application/json"}
        async with self._service.request("POST", "/api/chat", body=body, headers=headers) as reply:
            # A refusal is JSON with a good status, also where a stream was asked for.
            if reply.content_type == "application/json" or not self._settings.streaming:
                document = await reply.json()
                self._chat.check(document)
                if self._settings.streaming:
                    raise self._service.bad("it is JSON where a stream of events was expected")
                for result in self._chat.take_whole(document):
                    yield result
                await self._conversation.keep(self._chat.conversation_id)
                return
            async for event in reply.events():
                for result in self._chat.take(event):
                    yield result
                await self._conversation.keep(self._chat.conversation_id)

    async def _upload(self) -> list[dict[str, str]]:
        sent = []
        for file in await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes):
            form = File("file", file.name, file.mime_type, file.data)
            uploaded = await self._service.upload("/api/file/upload", form)
            self._chat.check(uploaded)
            file_id = text_at(uploaded, "data")
            if not file_id:
                raise self._service.bad("the upload of a file has no id")
            sent.append({"type": _KINDS[file.kind], "fileId": file_id})
        return sent
