"""What Tbox sends while an agent answers, as results of the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from portway.runtime.official.tbox.settings import meaning
from portway.runtime.sdk import Progress, RunResult
from portway.runtime.sdk.service import Answer, Reference, Service, ServiceFailure
from portway.runtime.sdk.service.events import ServerEvent
from portway.runtime.sdk.service.reading import object_at, object_of, objects_at, text_at

NAME = "Tbox"


class Chat:
    """One answer. Its parts come on lanes, one for each output of the application."""

    def __init__(self, service: Service, answer: Answer) -> None:
        self._service = service
        self._answer = answer
        self._lane = ""
        self.conversation_id = ""
        self.complete = False

    def take(self, event: ServerEvent) -> Iterator[RunResult]:
        """One event of the stream."""
        data = object_of(NAME, event.data)
        if event.name == "error":
            raise self.failure(data.get("errorCode"), data.get("description") or data.get("errorMsg"))
        if event.name == "message":
            yield from self._part(data, _payload(data))

    def _part(self, data: Mapping[str, Any], payload: Mapping[str, Any]) -> Iterator[RunResult]:
        match text_at(data, "type"):
            case "meta":
                self.conversation_id = text_at(payload, "conversationId") or self.conversation_id
            case "header":
                yield Progress(text_at(payload, "name")[:200])
            case "chunk":
                yield from self._begin(text_at(data, "lane"))
                yield from self._answer.say(text_at(payload, "text"))
            case "thinking":
                yield from self._answer.think(text_at(payload, "text"))
            case "reference":
                self._refer(payload)
            case "revoke":
                raise ServiceFailure("service.content_filter", f"{NAME} withdrew its answer; change what is asked")
            case "error":
                raise self.failure(payload.get("errorCode"), payload.get("errorMsg") or payload.get("description"))
            case "end":
                self.complete = True

    def take_whole(self, document: Mapping[str, Any]) -> Iterator[RunResult]:
        """An answer in one piece."""
        self.check(document)
        data = object_at(document, "data")
        if not data:
            raise self._service.bad("it has no data")
        self.conversation_id = text_at(data, "conversationId")
        for thought in objects_at(data, "reasoningContent"):
            yield from self._answer.think(text_at(thought, "text"))
        yield from self._answer.think(text_at(data, "reasoningContent"))
        self._refer(data)
        for part in (*objects_at(data, "result"), *objects_at(data, "answers")):
            yield from self._begin(text_at(part, "lane"))
            yield from self._answer.say(text_at(part, "chunk") or text_at(part, "text"))
        self.complete = True

    def check(self, document: Mapping[str, Any]) -> None:
        """Raises what a document with a good status says went wrong."""
        code = document.get("errorCode")
        if code is None:
            raise self._service.bad("it has no errorCode")
        if str(code) != "0":
            raise self.failure(code, document.get("errorMsg"))

    def failure(self, code: object, text: object) -> ServiceFailure:
        return self._service.reported(code, text, meaning(str(text or "")))

    def _begin(self, lane: str) -> Iterator[RunResult]:
        if lane != self._lane and self._answer.text:
            yield from self._answer.say("\n\n")
        self._lane = lane

    def _refer(self, payload: Mapping[str, Any]) -> None:
        for found in objects_at(payload, "references"):
            self._answer.refer(Reference(text_at(found, "title") or text_at(found, "name"), text_at(found, "url")))


def _payload(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """It is JSON inside of JSON."""
    payload = data.get("payload")
    if isinstance(payload, str) and payload:
        return object_of(NAME, payload)
    return payload if isinstance(payload, dict) else {}
