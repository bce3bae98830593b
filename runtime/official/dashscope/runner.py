"""The runner that asks an application of Alibaba Cloud Model Studio (DashScope)."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from portway.runtime.official.dashscope.settings import CODES, Settings, read_settings
from portway.runtime.sdk import AgentRunner, HostApi, Progress, RunContext, RunResult, Usage, add_usage
from portway.runtime.sdk.service import (
    Answer,
    Conversation,
    Json,
    Memory,
    Reference,
    Service,
    ServiceFailure,
    ended,
    open_service,
    person_of,
    read_attachments,
)
from portway.runtime.sdk.service.reading import number_at, object_at, object_of, objects_at, text_at

NAME = "DashScope"
MAX_TEXT_FILE = 64 * 1024
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


class DashScope(AgentRunner):
    """One message, one call of the application. Cancelling closes its connection; there is nothing else for that."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"authorization": f"Bearer {settings.api_key}"}
        if settings.workspace:
            headers["x-dashscope-workspace"] = settings.workspace
        async with open_service(
            NAME, settings.service, headers=headers, secrets=(settings.api_key,), codes=CODES
        ) as service:
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
        self._complete = False
        self._session_id = ""
        belongs_to = (settings.service.base_url, settings.app_id, person_of(ctx))
        self._session = Conversation(Memory(host, "dashscope", "session", *belongs_to), is_forgotten)

    async def results(self) -> AsyncGenerator[RunResult, None]:
        prompt = await self._prompt()

        def ask(session_id: str) -> AsyncGenerator[RunResult, None]:
            return self._ask(prompt, session_id)

        async with aclosing(self._session.results(ask)) as results:
            async for result in results:
                yield result
        if not self._complete:
            raise self._service.bad("the stream ended before the answer did")
        async for result in ended(self._service, self._host, self._answer):
            yield result

    async def _ask(self, prompt: str, session_id: str) -> AsyncGenerator[RunResult, None]:
        path = f"/api/v1/apps/{quote(self._settings.app_id, safe='')}/completion"
        body = self._body(prompt, session_id)
        if not self._settings.streaming:
            for result in self._take(await self._service.post(path, body)):
                yield result
            await self._session.keep(self._session_id)
            # An answer in one piece is a whole one, whatever it says about its end.
            self._complete = True
            return
        headers = {"x-dashscope-sse": "enable", "accept": "text/event-stream"}
        async with self._service.request("POST", path, body=body, headers=headers) as reply:
            async for event in reply.events():
                data = object_of(NAME, event.data)
                for result in self._take(data):
                    yield result
                await self._session.keep(self._session_id)

    def _body(self, prompt: str, session_id: str) -> Json:
        settings = self._settings
        given: Json = {"prompt": prompt}
        if session_id:
            given["session_id"] = session_id
        if settings.biz_params:
            given["biz_params"] = dict(settings.biz_params)
        parameters: Json = {"has_thoughts": settings.thoughts}
        if settings.streaming:
            parameters["incremental_output"] = True
            if settings.is_workflow:
                parameters["flow_stream_mode"] = "message_format"
        return {"input": given, "parameters": parameters, "debug": {}}

    def _take(self, data: Mapping[str, Any]) -> Iterator[RunResult]:
        output = object_at(data, "output")
        if data.get("code") and not output:
            # A refusal is told in an answer with a good status as well.
            raise self._service.reported(text_at(data, "code"), text_at(data, "message"))
        if not output:
            raise self._service.bad("it has no output")
        self._session_id = text_at(output, "session_id")
        for thought in objects_at(output, "thoughts"):
            yield from self._answer.think(text_at(thought, "thought"))
            if action := text_at(thought, "action_name"):
                yield Progress(action[:200])
        for found in objects_at(output, "doc_references"):
            title = text_at(found, "title") or text_at(found, "doc_name")
            self._answer.refer(Reference(title, text_at(found, "doc_url")))
        yield from self._answer.say(text_at(output, "workflow_message", "message", "content"))
        yield from self._answer.say(text_at(output, "text"))
        models = objects_at(data, "usage", "models")
        if models:
            # Each event tells what was used so far.
            self._answer.usage = add_usage(_usage(one) for one in models)
        self._complete = self._complete or text_at(output, "finish_reason") not in ("", "null")

    async def _prompt(self) -> str:
        """Files go to an application by public addresses alone; what is text is written into the message."""
        prompt = self._ctx.input.text
        for file in await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes):
            if not file.mime_type.startswith(_TEXT_TYPES) or len(file.data) > MAX_TEXT_FILE:
                raise ServiceFailure(
                    "service.unsupported",
                    f"{NAME} takes pictures and documents by public addresses alone, so {file.name} cannot be sent; "
                    f"text files of at most {MAX_TEXT_FILE:,} bytes can",
                )
            prompt += f"\n\n[{file.name}]\n{file.data.decode(errors='replace')}"
        return prompt


def _usage(model: Mapping[str, Any]) -> Usage:
    return Usage(
        number_at(model, "input_tokens"), number_at(model, "output_tokens"), model_id=text_at(model, "model_id")
    )


def is_forgotten(failure: ServiceFailure) -> bool:
    """Whether the session is over, which it is after an hour."""
    about = f"{failure.vendor_code} {failure.detail}".lower()
    return failure.status in (0, 400, 404) and "session" in about
