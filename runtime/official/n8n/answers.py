"""What a workflow of n8n answers: its own stream of JSON lines, or whatever its last node says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from pathlib import PurePosixPath
from typing import Any

from portway.runtime.sdk import RunResult
from portway.runtime.sdk.service import Answer, Reply, Service, ServiceFailure, bad_answer
from portway.runtime.sdk.service.reading import object_of, parse, text_at

NAME = "n8n"
_TEXT_TYPES = ("", "text/plain", "text/html", "text/markdown")
# What it answers everything with, and with a good status, until it has started.
_STARTING = "n8n is starting up. Please wait"
_KINDS = ("begin", "item", "end", "error")


class StreamedLines:
    """n8n's stream: each node that speaks begins, sends items and ends."""

    def __init__(self, service: Service, answer: Answer) -> None:
        self._service = service
        self._answer = answer
        self._open = 0
        self._ended = 0

    @staticmethod
    def begins_with(line: str) -> bool:
        """Whether the first line of an answer is the first one of a stream."""
        try:
            first = parse(line)
        except ValueError:
            return False
        return isinstance(first, dict) and first.get("type") in _KINDS and "metadata" in first

    def take(self, line: str) -> Iterator[RunResult]:
        document = object_of(NAME, line)
        match document.get("type"):
            case "begin":
                self._open += 1
                if self._answer.text:
                    yield from self._answer.say("\n\n")
            case "item":
                yield from self._answer.say(_text(document.get("content")))
            case "end":
                self._open -= 1
                self._ended += 1
            case "error":
                raise self._service.reported(text_at(document, "metadata", "nodeName"), _said(document))

    def finish(self) -> None:
        """Raises where the stream was cut."""
        if self._open > 0 or not self._ended:
            raise bad_answer(NAME, "the stream ended before the answer did")


def meaning(failure: ServiceFailure) -> ServiceFailure:
    """n8n answers with 500 where a workflow ended with an error, which is no fault of the server."""
    if failure.status != 500 or "workflow" not in failure.detail.lower():
        return failure
    message = f"{NAME} says: {failure.detail}; look at the workflow's executions there"
    return ServiceFailure("service.failed", message, status=failure.status, detail=failure.detail)


def plain_text(body: str, path: Sequence[str], reply: Reply) -> str:
    """The text of an answer in one piece."""
    if not body.strip():
        return ""
    if body.strip() == _STARTING:
        raise ServiceFailure("service.unavailable", f"{NAME} is starting up; try again later")
    try:
        document = parse(body)
    except ValueError:
        # A node that responds with text calls it HTML unless it is told otherwise.
        if body.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<?xml")):
            raise bad_answer(NAME, "it is a page in HTML") from None
        if reply.content_type not in _TEXT_TYPES:
            raise bad_answer(NAME, f"it is {reply.content_type}, but neither JSON nor text") from None
        return body
    if isinstance(document, list):
        document = document[0] if document else ""
    if isinstance(document, dict):
        return _found(document, path)
    return _text(document)


def file_name(headers: Mapping[str, str]) -> str:
    """How the answer names the file that it is; empty where it does not."""
    message = Message()
    message["content-disposition"] = headers.get("content-disposition", "")
    name = message.get_filename() or ""
    return PurePosixPath(name.replace("\\", "/")).name[-200:]


def _found(document: Mapping[str, Any], path: Sequence[str]) -> str:
    value: Any = document
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            names = ", ".join(list(document)[:20]) or "nothing"
            wanted = ".".join(path)
            raise bad_answer(NAME, f"it has no field {wanted!r}, only {names}; set config.output_key or the last node")
        value = value[key]
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _said(document: Mapping[str, Any]) -> str:
    return _text(document.get("content")) or text_at(document, "message")
