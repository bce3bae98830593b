"""The runner that runs a flow of Langflow."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from portway.runtime.official.langflow.settings import Settings, read_settings
from portway.runtime.sdk import AgentRunner, HostApi, RunContext, RunResult
from portway.runtime.sdk.service import (
    Answer,
    File,
    Json,
    Service,
    ServiceFailure,
    ended,
    open_service,
    read_attachments,
    session_of,
)
from portway.runtime.sdk.service.reading import object_at, object_of, objects_at, text_at

NAME = "Langflow"
# Lines of a stream of server-sent events that hold no data.
_BESIDE = (":", "event:", "id:", "retry:")


class Langflow(AgentRunner):
    """One message, one run of the flow, in a session of this conversation. Cancelling closes the connection, which
    ends the run there."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx.config)
        headers = {"x-api-key": settings.api_key} if settings.api_key else {}
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
        self._answer = Answer(NAME)
        self._flow = quote(settings.flow_id, safe="")
        self._complete = False

    async def results(self) -> AsyncGenerator[RunResult, None]:
        body = self._body(await self._tweaks())
        path = f"/api/v1/run/{self._flow}"
        if not self._settings.streaming:
            document = await self._service.post(path, body, params={"stream": "false"})
            if "outputs" not in document:
                raise self._service.bad("it has no outputs")
            for result in self._answer.catch_up(output_text(document)):
                yield result
            self._complete = True
        else:
            async with self._service.request("POST", path, body=body, params={"stream": "true"}) as reply:
                if reply.content_type != "text/event-stream":
                    raise self._service.bad(f"it is {reply.content_type or 'unnamed'} where a stream was expected")
                async for line in reply.lines():
                    # Each line is an event; some versions, and servers in between, write them as server-sent events.
                    if line.startswith(_BESIDE):
                        continue
                    for result in self._take(object_of(NAME, line.removeprefix("data:").strip())):
                        yield result
        if not self._complete:
            raise self._service.bad("the stream ended before the answer did")
        async for result in ended(self._service, self._host, self._answer):
            yield result

    def _take(self, event: Mapping[str, Any]) -> Iterator[RunResult]:
        match text_at(event, "event"):
            case "token":
                yield from self._answer.say(text_at(event, "data", "chunk"))
            case "end":
                whole = output_text(object_at(event, "data", "result"))
                if whole:
                    yield from self._answer.catch_up(whole)
                self._complete = True
            case "error":
                data = object_at(event, "data")
                text = text_at(data, "error") or text_at(data, "text") or text_at(data, "exception", "error")
                raise self._service.reported("", text)

    def _body(self, tweaks: Json) -> Json:
        body: Json = {
            "input_value": self._ctx.input.text,
            "input_type": self._settings.input_type,
            "output_type": self._settings.output_type,
            "session_id": session_of(self._ctx),
        }
        if self._settings.output_component:
            body["output_component"] = self._settings.output_component
        if tweaks:
            body["tweaks"] = tweaks
        return body

    async def _tweaks(self) -> Json:
        """The configured ones, and the message's files for the component that takes them."""
        tweaks = dict(self._settings.tweaks)
        files = await read_attachments(self._ctx, self._host, self._settings.service.max_file_bytes)
        if not files:
            return tweaks
        component = self._settings.file_component
        if not component:
            raise ServiceFailure(
                "service.unsupported", "the flow takes no files; name its Chat Input in config.file_component"
            )
        paths = []
        for file in files:
            form = File("file", file.name, file.mime_type, file.data)
            uploaded = await self._service.upload(f"/api/v1/files/upload/{self._flow}", form)
            path = text_at(uploaded, "file_path")
            if not path:
                raise self._service.bad("the upload of a file has no path")
            paths.append(path)
        tweaks[component] = {**object_at(tweaks, component), "files": paths}
        return tweaks


def output_text(document: Mapping[str, Any]) -> str:
    """The first text among the outputs of a run."""
    for run in objects_at(document, "outputs"):
        for output in objects_at(run, "outputs"):
            for text in _texts(output):
                if text:
                    return text
    return ""


def _texts(output: Mapping[str, Any]) -> Iterator[str]:
    """The places where the versions of Langflow have it."""
    yield text_at(output, "results", "message", "text")
    yield text_at(output, "results", "message", "data", "text")
    yield text_at(output, "results", "text", "text")
    for message in objects_at(output, "messages"):
        yield text_at(message, "message")
    yield text_at(output, "artifacts", "message")
    yield text_at(output, "outputs", "message", "message")
