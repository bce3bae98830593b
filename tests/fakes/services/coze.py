"""Coze's v3 chat API, as it is documented."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, events, pieces, stream

USAGE = {"token_count": 12, "output_count": 5, "input_count": 7}


@dataclass
class FakeCoze(FakeService):
    conversations: dict[str, str] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    polls: int = 0
    text: str = ""

    def is_message(self, asked: Asked) -> bool:
        return asked.path == "/v3/chat"

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(document({"code": 4100, "msg": f"bad token {asked.headers.get('authorization')}"}, 401))
        match asked.path:
            case "/v3/chat":
                return self._chat(asked)
            case "/v1/files/upload":
                self.need(len(asked.files) == 1 and asked.files[0].field == "file", "one file")
                file_id = f"file-{len(self.uploads) + 1}"
                self.uploads.add(file_id)
                return document({"code": 0, "msg": "", "data": {"id": file_id, "bytes": 1}})
            case "/v3/chat/cancel":
                self.cancelled.append(asked.body["chat_id"])
                self.need(asked.body["conversation_id"], "conversation_id")
                return document({"code": 0, "msg": "", "data": {"status": "canceled"}})
        self.need(asked.method == "GET" and asked.query.get("chat_id") == "chat-1", "chat_id")
        self.need(asked.query.get("conversation_id") in self.conversations, "conversation_id")
        if asked.path == "/v3/chat/retrieve":
            self.polls += 1
            return document({"code": 0, "data": self._state("completed" if self.polls > 1 else "in_progress")})
        self.need(asked.path == "/v3/chat/message/list" and self.polls > 1, f"unknown path {asked.path}")
        messages = [_message("verbose", "{}"), _message("answer", self.text, reasoning_content="thinking")]
        return document({"code": 0, "data": [*messages, _message("follow_up", "And then?")]})

    def _chat(self, asked: Asked) -> Answer:
        body: Any = asked.body
        for name in ("bot_id", "user_id"):
            self.need(isinstance(body.get(name), str) and body[name], f"{name} is required")
        self.need(body["stream"] or body["auto_save_history"], "auto_save_history is needed where stream is false")
        message = body["additional_messages"][0]
        self.need(message["role"] == "user" and message["content_type"] in ("text", "object_string"), "message")
        text = message["content"]
        if message["content_type"] == "object_string":
            parts = json.loads(text)
            self.need(all(one.get("file_id") in self.uploads for one in parts if one["type"] != "text"), "file_id")
            text = "".join(one.get("text", "") for one in parts)
        conversation_id = asked.query.get("conversation_id", f"conversation-{len(self.conversations) + 1}")
        if "conversation_id" in asked.query and conversation_id not in self.conversations:
            raise Refused(document({"code": 4200, "msg": "the conversation does not exist"}))
        self.conversations[conversation_id] = body["user_id"]
        self.text, self.polls = f"echo: {text}", 0
        if not body["stream"]:
            return document({"code": 0, "msg": "", "data": self._state("in_progress")})
        said = [("conversation.message.delta", _message("answer", piece)) for piece in pieces(self.text)]
        return stream(
            *events(
                ("conversation.chat.created", self._state("created")),
                ("conversation.message.delta", _message("answer", "", reasoning_content="thinking")),
                *said,
                ("conversation.message.completed", _message("answer", self.text)),
                ("conversation.message.completed", _message("follow_up", "And then?", number=2)),
                ("conversation.chat.completed", self._state("completed")),
                ("done", "[DONE]"),
            )
        )

    def _state(self, status: str) -> dict[str, Any]:
        return {"id": "chat-1", "conversation_id": list(self.conversations)[-1], "status": status, "usage": USAGE}


def _message(kind: str, content: str, *, number: int = 1, **more: str) -> dict[str, Any]:
    return {"id": f"m{number}", "type": kind, "role": "assistant", "content": content, "content_type": "text", **more}
