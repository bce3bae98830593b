"""Dify's application API, as it is documented."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, events, pieces, stream

USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}
FORM = {
    "form_id": "form-1",
    "form_token": "form-token-1",
    "node_title": "Approve the draft",
    "form_content": "Shall it go out?",
    "inputs": [
        {"type": "paragraph", "output_variable_name": "feedback", "default": {"type": "constant", "value": ""}},
        {"type": "select", "output_variable_name": "tone", "option_source": {"type": "constant", "value": ["a", "b"]}},
    ],
    "actions": [{"id": "approve", "title": "Approve", "button_style": "primary"}],
}


@dataclass
class FakeDify(FakeService):
    conversations: dict[str, str] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    submitted: list[Any] = field(default_factory=list)

    def is_message(self, asked: Asked) -> bool:
        return asked.path in ("/v1/chat-messages", "/v1/workflows/run")

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            message = f"Access token {asked.headers.get('authorization')} is invalid"
            raise Refused(document({"code": "unauthorized", "message": message, "status": 401}, 401))
        user = asked.query.get("user") or (asked.body or {}).get("user")
        self.need(isinstance(user, str) and user, "user is required")
        match asked.path.removeprefix("/v1").strip("/").split("/"):
            case ["chat-messages"]:
                return self._chat(asked.body)
            case ["workflows", "run"]:
                return self._workflow(asked.body)
            case ["files", "upload"]:
                return self._upload(asked)
            case ["chat-messages", task, "stop"] | ["workflows", "tasks", task, "stop"]:
                self.stopped.append(task)
                return document({"result": "success"})
            case ["form", "human_input", token]:
                self.need(token == FORM["form_token"] and set(asked.body) == {"inputs", "action", "user"}, "form")
                self.submitted.append(asked.body)
                return document({})
            case ["workflow", run, "events"]:
                self.need(asked.method == "GET" and run == "run-1" and self.submitted, "nothing to resume")
                return self._resumed()
        self.need(False, f"unknown path {asked.path}")
        raise AssertionError

    def _chat(self, body: Any) -> Answer:
        self.need(isinstance(body.get("inputs"), dict), "inputs is required")
        self.need(isinstance(body.get("query"), str) and body["query"], "query is required")
        self.need(body.get("response_mode") in ("streaming", "blocking"), "response_mode")
        self._files(body.get("files", []))
        if given := body.get("conversation_id"):
            self.need(_is_uuid(given), "conversation_id must be a valid UUID")
        conversation_id = given or str(uuid.UUID(int=len(self.conversations) + 1, version=4))
        if body.get("conversation_id") and self.conversations.get(conversation_id) != body["user"]:
            raise Refused(document({"code": "not_found", "message": "Conversation Not Exists.", "status": 404}, 404))
        self.conversations[conversation_id] = body["user"]
        text = f"echo: {body['query']}"
        metadata = USAGE | {"retriever_resources": [{"document_name": "Handbook", "content": "…"}]}
        if body["response_mode"] == "blocking":
            return document({"event": "message", "answer": text, "metadata": metadata, **_ids(conversation_id)})
        said = [("", {"event": "message", "answer": piece, **_ids(conversation_id)}) for piece in pieces(text)]
        end = {"event": "message_end", "metadata": metadata, **_ids(conversation_id)}
        return stream(*events(*said, ("", end)))

    def _workflow(self, body: Any) -> Answer:
        self.need("query" not in body and isinstance(body.get("inputs", {}).get("query"), str), "inputs.query")
        self._files(body["inputs"].get("files", []))
        data = {"status": "succeeded", "outputs": {"text": f"echo: {body['inputs']['query']}"}, "total_tokens": 12}
        if body["response_mode"] == "blocking":
            return document({"workflow_run_id": "run-1", "task_id": "task-1", "data": data})
        return stream(*self.workflow_events(data))

    def workflow_events(self, data: Any) -> tuple[bytes, ...]:
        chunks = [("", {"event": "text_chunk", "data": {"text": "echo: "}, **_ids("")})]
        start = {"event": "workflow_started", "data": {}, **_ids("")}
        end = {"event": "workflow_finished", "data": data, **_ids("")}
        return events(("", start), *chunks, ("", end))

    def _resumed(self) -> Answer:
        data = {"status": "succeeded", "outputs": {"text": "it went out"}, "total_tokens": 3}
        return stream(*events(("", {"event": "workflow_finished", "data": data, **_ids("")})))

    def _upload(self, asked: Asked) -> Answer:
        self.need(len(asked.files) == 1 and asked.files[0].field == "file", "one file")
        file_id = f"file-{len(self.uploads) + 1}"
        self.uploads.add(file_id)
        return document({"id": file_id, "name": asked.files[0].name, "size": len(asked.files[0].data)}, 201)

    def _files(self, files: Any) -> None:
        for one in files:
            self.need(one["type"] in ("image", "document", "audio", "video"), "type of a file")
            self.need(one["transfer_method"] == "local_file" and one["upload_file_id"] in self.uploads, "upload")


def paused() -> Answer:
    return stream(
        *events(
            ("", {"event": "workflow_started", "data": {}, **_ids("")}),
            ("", {"event": "human_input_required", "data": FORM, **_ids("")}),
            ("", {"event": "workflow_paused", "data": {"reasons": []}, **_ids("")}),
        )
    )


def _is_uuid(text: Any) -> bool:
    try:
        return bool(str(uuid.UUID(text)) == text)
    except (ValueError, AttributeError, TypeError):
        return False


def _ids(conversation_id: str) -> dict[str, str]:
    named = {"conversation_id": conversation_id} if conversation_id else {"workflow_run_id": "run-1"}
    return {"task_id": "task-1", **named}
