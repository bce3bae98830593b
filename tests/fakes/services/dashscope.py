"""The completion call of applications of Alibaba Cloud Model Studio, as it is documented."""

from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, events, pieces, stream

USAGE = {"models": [{"model_id": "qwen-plus", "input_tokens": 7, "output_tokens": 5}]}


@dataclass
class FakeDashScope(FakeService):
    sessions: set[str] = field(default_factory=set)

    def is_message(self, asked: Asked) -> bool:
        return asked.path == "/api/v1/apps/app-1/completion"

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            text = f"Invalid API-key provided: {asked.headers.get('authorization')}"
            raise Refused(document({"code": "InvalidApiKey", "message": text, "request_id": "r"}, 401))
        self.need(self.is_message(asked), f"unknown path {asked.path}")
        body: Any = asked.body
        self.need(isinstance(body["input"].get("prompt"), str) and body["input"]["prompt"], "prompt is required")
        session = body["input"].get("session_id")
        if session and session not in self.sessions:
            text = "The session_id is expired or does not exist."
            raise Refused(document({"code": "InvalidParameter", "message": text, "request_id": "r"}, 400))
        session = session or f"session-{len(self.sessions) + 1}"
        self.sessions.add(session)
        text = f"echo: {body['input']['prompt']}"
        if asked.headers.get("x-dashscope-sse") != "enable":
            self.need("incremental_output" not in body["parameters"], "incremental_output is for streams")
            return document({"output": self._output(text, session, "stop"), "usage": USAGE, "request_id": "r"})
        self.need(body["parameters"]["incremental_output"] is True, "incremental_output")
        said = [
            ("result", {"output": self._output(piece, session, "null"), "usage": USAGE, "request_id": "r"})
            for piece in pieces(text)
        ]
        end = self._output("", session, "stop") | {"doc_references": [{"title": "Handbook", "doc_url": ""}]}
        return stream(*events(*said, ("result", {"output": end, "usage": USAGE, "request_id": "r"})))

    def _output(self, text: str, session: str, finish: str) -> dict[str, Any]:
        thoughts = [{"thought": "thinking", "action_type": "api", "action_name": "search"}]
        return {"text": text, "session_id": session, "finish_reason": finish, "thoughts": thoughts}
