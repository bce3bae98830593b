"""Langflow's run endpoint, as it is documented."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, pieces, stream


@dataclass
class FakeLangflow(FakeService):
    uploads: set[str] = field(default_factory=set)

    def is_message(self, asked: Asked) -> bool:
        return asked.path == "/api/v1/run/flow-1"

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("x-api-key") != KEY:
            raise Refused(document({"detail": f"Invalid API key {asked.headers.get('x-api-key')}"}, 403))
        if asked.path == "/api/v1/files/upload/flow-1":
            self.need(len(asked.files) == 1 and asked.files[0].field == "file", "one file")
            path = f"flow-1/{len(self.uploads) + 1}_{asked.files[0].name}"
            self.uploads.add(path)
            return document({"flowId": "flow-1", "file_path": path}, 201)
        if not self.is_message(asked):
            raise Refused(document({"detail": "Flow identifier not found"}, 404))
        body: Any = asked.body
        self.need(isinstance(body.get("session_id"), str) and body["session_id"], "session_id")
        self.need(body.get("input_type") in ("chat", "text", "any"), "input_type")
        self.need(body.get("output_type") in ("chat", "text", "any", "debug"), "output_type")
        for component in (body.get("tweaks") or {}).values():
            self.need(set(component.get("files", [])) <= self.uploads, "unknown file")
        text = f"echo: {body['input_value']}"
        result = outputs(text, body["session_id"])
        if asked.query["stream"] == "false":
            return document(result)
        said = [{"event": "token", "data": {"chunk": piece, "id": "m1"}} for piece in pieces(text)]
        return stream(*lines({"event": "add_message", "data": {"text": body["input_value"], "sender": "User"}}, *said),
                      *lines({"event": "end", "data": {"result": result}}))  # fmt: skip


def lines(*events: object) -> tuple[bytes, ...]:
    raw = "".join(json.dumps(event) + "\n\n" for event in events).encode()
    return tuple(raw[start : start + 43] for start in range(0, len(raw), 43))


def outputs(text: str, session: str) -> dict[str, Any]:
    inner = {"results": {"message": {"text": text, "sender": "Machine"}}, "artifacts": {"message": text}}
    return {"session_id": session, "outputs": [{"inputs": {"input_value": ""}, "outputs": [inner]}]}
