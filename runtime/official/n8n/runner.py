"""The runner that calls a webhook of n8n."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from portway.runtime.official.n8n.answers import NAME, StreamedLines, file_name, meaning, plain_text
from portway.runtime.official.n8n.settings import Settings, read_settings
from portway.runtime.sdk import AgentRunner, HostApi, RunContext, RunResult
from portway.runtime.sdk.service import (
    Answer,
    File,
    Made,
    Reply,
    Service,
    ServiceFailure,
    ended,
    open_service,
    person_of,
    read_attachments,
    session_of,
)

# What a Respond node sends as a binary file.
_FILES = ("image/", "audio/", "video/", "application/pdf", "application/octet-stream", "application/zip")


class N8n(AgentRunner):
    """One message, one call of the webhook. Cancelling closes its connection; n8n has nothing else for that."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        async with open_service(
            NAME,
            settings.service,
            headers=settings.headers,
            auth=settings.basic,
            secrets=settings.secrets,
        ) as service:
            async with aclosing(service.told(_results(ctx, host, service, settings))) as results:
                async for result in results:
                    yield result


async def _results(
    ctx: RunContext, host: HostApi, service: Service, settings: Settings
) -> AsyncGenerator[RunResult, None]:
    attachments = await read_attachments(ctx, host, settings.service.max_file_bytes)
    files = [File(settings.file_key, one.name, one.mime_type, one.data) for one in attachments]
    answer = Answer(NAME)
    try:
        async with _request(service, settings, _body(ctx, settings), files) as reply:
            async for result in _read(service, settings, answer, reply):
                yield result
    except ServiceFailure as failure:
        raise meaning(failure) from None
    async for result in ended(service, host, answer):
        yield result


def _request(
    service: Service, settings: Settings, body: dict[str, Any], files: list[File]
) -> AbstractAsyncContextManager[Reply]:
    if not files:
        return service.request("POST", "", body=body)
    fields = {key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}
    return service.request("POST", "", files=files, fields=fields)


def _body(ctx: RunContext, settings: Settings) -> dict[str, Any]:
    return {
        **settings.inputs,
        "action": "sendMessage",
        settings.session_key: session_of(ctx),
        settings.input_key: ctx.input.text,
        "user": person_of(ctx),
    }


async def _read(service: Service, settings: Settings, answer: Answer, reply: Reply) -> AsyncIterator[RunResult]:
    """The first line tells a stream from an answer in one piece, which may be a file."""
    if reply.content_type.startswith(_FILES):
        data = await reply.data(settings.service.max_file_bytes or 1)
        answer.attach(Made("", file_name(reply.headers), reply.content_type, data))
        return
    whole: list[str] = []
    stream: StreamedLines | None = None
    async for line in reply.lines():
        if stream is None and not whole and StreamedLines.begins_with(line):
            stream = StreamedLines(service, answer)
        if stream is None:
            whole.append(line)
            continue
        for result in stream.take(line):
            yield result
    if stream is not None:
        stream.finish()
        return
    for result in answer.say(plain_text("\n".join(whole), settings.output_key, reply)):
        yield result
