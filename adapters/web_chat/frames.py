"""What the page and this process say to each other over the WebSocket: JSON objects with a type `t`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portway.adapters.kit.host import ConversationPage, Item
from portway.adapters.kit.questions import Answer, Question
from portway.adapters.kit.types import Attachment, LinkState
from portway.adapters.web_chat.limits import CONVERSATION_PREFIX, FILES_A_MESSAGE, TEXT_BYTES
from portway.rpc.errors import InvalidInput, PayloadTooLarge, PortwayError, Unavailable

Json = dict[str, object]

_CONVERSATION = re.compile(rf"{CONVERSATION_PREFIX}[A-Za-z0-9_-]{{8,100}}")
_KEY = re.compile(r"[A-Za-z0-9_-]{8,128}")
_ID = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")
_MAX_CURSOR = 1024
_MAX_NAME = 512
_DIGEST = 64


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """Show a conversation: what is newer than the cursor `after`, or the last page; and then whatever comes."""

    conversation_id: str
    after: str


@dataclass(frozen=True, slots=True)
class OlderFrame:
    """The page of messages before a cursor."""

    conversation_id: str
    before: str


@dataclass(frozen=True, slots=True)
class SendFrame:
    """A message. `key` was made by the page: the same again is the same message."""

    key: str
    conversation_id: str
    text: str
    files: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class CancelFrame:
    """Stop a run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ListFrame:
    """The conversations; the next page of them with a token."""

    token: str


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """An answer to a question. `key` was made by the page: the same again is the same answer."""

    key: str
    conversation_id: str
    answer: Answer


PageFrame = OpenFrame | OlderFrame | SendFrame | CancelFrame | ListFrame | AnswerFrame


def parse(text: str) -> PageFrame:
    """Raises `InvalidInput` for what the page would never send."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the frame is not JSON") from None
    if not isinstance(raw, dict):
        raise InvalidInput("the frame is not a JSON object")
    match raw.get("t"):
        case "open":
            return OpenFrame(_conversation(raw), _text(raw, "after", _MAX_CURSOR))
        case "older":
            return OlderFrame(_conversation(raw), _text(raw, "before", _MAX_CURSOR))
        case "send":
            return _send(raw)
        case "cancel":
            return CancelFrame(_matching(raw, "run", _ID))
        case "answer":
            return _answer(raw)
        case "list":
            return ListFrame(_text(raw, "token", _MAX_CURSOR))
        case _:
            raise InvalidInput.field("t", "is no kind of frame that this version knows; reload the page")


def _send(raw: Mapping[str, Any]) -> SendFrame:
    text = raw.get("text", "")
    files = raw.get("files", [])
    if not isinstance(text, str) or not isinstance(files, list):
        raise InvalidInput.field("text", "must be text, and files a list")
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES:
        raise PayloadTooLarge(f"the message is longer than {TEXT_BYTES // 1024} KiB; send it as a file")
    if len(files) > FILES_A_MESSAGE:
        raise InvalidInput.field("files", f"at most {FILES_A_MESSAGE} files fit one message")
    if not text.strip() and not files:
        raise InvalidInput.field("text", "the message is empty")
    # Half of a surrogate pair is no text; a browser makes one when an emoji is cut in two.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return SendFrame(_matching(raw, "key", _KEY), _conversation(raw), clean, tuple(_file(one) for one in files))


def _answer(raw: Mapping[str, Any]) -> AnswerFrame:
    values = raw.get("values") or {}
    if not isinstance(values, dict):
        raise InvalidInput.field("values", "must be an object")
    if len(json.dumps(values)) > TEXT_BYTES:
        raise PayloadTooLarge(f"the answer is longer than {TEXT_BYTES // 1024} KiB")
    action = _text(raw, "action", _DIGEST * 2)
    answer = Answer(_matching(raw, "run", _ID), _text(raw, "id", _DIGEST * 2), action, values)
    return AnswerFrame(_matching(raw, "key", _KEY), _conversation(raw), answer)


def _file(raw: Any) -> Attachment:
    if not isinstance(raw, dict):
        raise InvalidInput.field("files", "must be objects")
    mime_type = _text(raw, "mime", 256)
    family = mime_type.partition("/")[0]
    kind = family if family in ("image", "audio", "video") else "file"
    size = raw.get("size", 0)
    if not isinstance(size, int) or size < 0:
        raise InvalidInput.field("files.size", "must be a number of bytes")
    name, sha256 = _text(raw, "name", _MAX_NAME), _text(raw, "sha256", _DIGEST)
    return Attachment(_matching(raw, "id", _ID), kind, name, mime_type, size, sha256)


def _conversation(raw: Mapping[str, Any]) -> str:
    return _matching(raw, "c", _CONVERSATION)


def _matching(raw: Mapping[str, Any], field: str, form: re.Pattern[str]) -> str:
    value = raw.get(field)
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise InvalidInput.field(field, "is missing or malformed")
    return value


def _text(raw: Mapping[str, Any], field: str, longest: int) -> str:
    value = raw.get(field) or ""
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidInput.field(field, f"must be text of at most {longest} characters")
    return value


def is_ours(conversation_id: str) -> bool:
    """Whether it is a conversation of this page, and not one of another platform."""
    return _CONVERSATION.fullmatch(conversation_id) is not None


def item_json(item: Item) -> Json:
    return {
        "id": item.item_id,
        "role": item.role,
        "kind": item.kind,
        "text": item.text,
        "files": [file_json(one) for one in item.attachments],
        "run": item.run_id,
        "name": item.actor_name,
        "cursor": item.cursor,
        "time": item.time.isoformat(),
        "redacted": item.redacted,
        "question": question_json(item.question) if item.question is not None else None,
    }


def question_json(question: Question) -> Json:
    return {
        "run": question.run_id,
        "state": question.state,
        "approval": question.is_approval,
        "shown": dict(question.shown),
        "answer": dict(question.answer),
    }


def file_json(file: Attachment) -> Json:
    return {
        "id": file.artifact_id,
        "kind": file.kind,
        "name": file.name,
        "mime": file.mime_type,
        "size": file.size,
        "sha256": file.sha256,
    }


def list_json(page: ConversationPage, token: str) -> Json:
    lines: list[Json] = [
        {
            "c": line.conversation_id,
            "title": line.title,
            "count": line.message_count,
            "open": line.open_run_count,
            "time": line.last_time.isoformat(),
        }
        for line in page.lines
        if is_ours(line.conversation_id)
    ]
    return {"t": "list", "conversations": lines, "next": page.next, "more": bool(token)}


def link_json(state: LinkState) -> Json:
    return {"t": "host", "state": state.kind.value, "detail": state.detail, "code": state.code}


def error_json(error: PortwayError) -> Json:
    """`retry`: the same may succeed later, in so many seconds where the host said so."""
    again = isinstance(error, Unavailable) or error.retry_after is not None
    return {"code": str(error.reason), "message": error.message, "retry": again, "after": error.retry_after}
