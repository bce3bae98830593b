"""The chat API of Ant Tbox, as it is documented."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, events, pieces, stream


@dataclass
class FakeTbox(FakeService):
    conversations: dict[str, str] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)

    def is_message(self, asked: Asked) -> bool:
        return asked.path == "/api/chat"

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != KEY:
            text = f"令牌无效 {asked.headers.get('authorization')}"
            raise Refused(document({"errorCode": "P_1_13_813", "errorMsg": text, "traceId": "t"}))
        if asked.path == "/api/file/upload":
            self.need(len(asked.files) == 1 and asked.files[0].field == "file", "one file")
            file_id = f"file-{len(self.uploads) + 1}"
            self.uploads.add(file_id)
            return document({"errorCode": "0", "errorMsg": "success", "data": file_id})
        self.need(self.is_message(asked), f"unknown path {asked.path}")
        body: Any = asked.body
        for name in ("appId", "query", "userId"):
            self.need(isinstance(body.get(name), str) and body[name], f"{name} is required")
        for one in body.get("files", []):
            self.need(one["type"] in ("IMAGE", "AUDIO", "VIDEO", "FILE") and one["fileId"] in self.uploads, "files")
        if body.get("conversationId", "") not in ("", *self.conversations):
            raise Refused(document({"errorCode": "C_1", "errorMsg": "会话不存在", "traceId": "t"}))
        conversation_id = body.get("conversationId") or f"conversation-{len(self.conversations) + 1}"
        self.conversations[conversation_id] = body["userId"]
        text = f"echo: {body['query']}"
        if not body["stream"]:
            data = {"conversationId": conversation_id, "result": [{"type": "text", "chunk": text}]}
            return document({"errorCode": "0", "errorMsg": "success", "data": data | {"reasoningContent": "thinking"}})
        said = [part("chunk", {"text": piece}) for piece in pieces(text)]
        references = {"references": [{"title": "Handbook", "url": "https://example.com/h"}]}
        return stream(
            *events(
                part("meta", {"conversationId": conversation_id}),
                part("header", {"mediaType": "text", "name": "answer"}),
                part("thinking", {"text": "thinking"}),
                *said,
                part("reference", references),
                part("end", {}),
            )
        )


def part(kind: str, payload: dict[str, Any]) -> tuple[str, object]:
    return "message", {"type": kind, "lane": "default", "payload": json.dumps(payload, ensure_ascii=False)}
