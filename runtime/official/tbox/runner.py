"""The runner that asks an agent of Ant Tbox."""

from collections.abc import AsyncIterator

from portway.runtime.official.tbox.chat import NAME, Chat
from portway.runtime.official.tbox.settings import Settings, read_settings
from portway.runtime.sdk import AgentRunner, HostApi, RunContext, RunResult
from portway.runtime.sdk.service import (
    Answer,
    File,
    Json,
    Memory,
    Service,
    ServiceFailure,
    bad_answer,
    open_service,
    person_of,
    read_attachments,
)
from portway.runtime.sdk.service.reading import text_at

_KINDS = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO", "document": "FILE"}


class Tbox(AgentRunner):
    """One message, one chat, in the conversation that Tbox keeps for this person here. Cancelling closes the
    connection; there is nothing else for that."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": settings.api_key}
        async with open_service(NAME, settings.service, headers=headers, secrets=(settings.api_key,)) as service:
            async for result in _Talk(ctx, host, service, settings).results():
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
        self._conversation = Memory(host, "tbox", "conversation", *belongs_to)

    async def results(self) -> AsyncIterator[RunResult]:
        files = await self._upload()
        known = await self._conversation.recall()
        conversation_id = known if isinstance(known, str) else ""
        try:
            async for result in self._ask(files, conversation_id):
                yield result
        except ServiceFailure as failure:
            # A conversation that is gone there is begun anew, once.
            if not conversation_id or failure.code != "service.not_found" or self._answer.text:
                raise
            await self._conversation.forget()
            async for result in self._ask(files, ""):
                yield result
        if not self._chat.complete:
            raise bad_answer(NAME, "the stream ended before the answer did")
        for result in self._answer.finish():
            yield result

    async def _ask(self, files: list[dict[str, str]], conversation_id: str) -> AsyncIterator[RunResult]:
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
                    raise bad_answer(NAME, "it is JSON where a stream of events was expected")
                for result in self._chat.take_whole(document):
                    yield result
                await self._remember()
                return
            async for event in reply.events():
                for result in self._chat.take(event):
                    yield result
                await self._remember()

    async def _remember(self) -> None:
        if self._chat.conversation_id:
            await self._conversation.keep(self._chat.conversation_id)

    async def _upload(self) -> list[dict[str, str]]:
        sent = []
        for file in await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes):
            form = File("file", file.name, file.mime_type, file.data)
            uploaded = await self._service.upload("/api/file/upload", form)
            self._chat.check(uploaded)
            file_id = text_at(uploaded, "data")
            if not file_id:
                raise bad_answer(NAME, "the upload of a file has no id")
            sent.append({"type": _KINDS[file.kind], "fileId": file_id})
        return sent
