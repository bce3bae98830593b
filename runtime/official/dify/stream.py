"""What Dify sends while it answers, as results of the run."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from portway.runtime.official.dify.settings import Settings
from portway.runtime.sdk import Progress, RunResult, ToolCallCompleted, ToolCallStarted, Usage
from portway.runtime.sdk.service import Answer, Made, Reference, Service, ServiceFailure
from portway.runtime.sdk.service.reading import number_at, object_at, objects_at, parse, text_at

_USUAL_OUTPUTS = ("text", "answer", "result", "output")


class Exchange:
    """One answer. After its last event it is `complete`, or waits with a `form`."""

    def __init__(self, service: Service, settings: Settings, answer: Answer, *, resumed: bool = False) -> None:
        self._service = service
        self._settings = settings
        self._answer = answer
        # A stream that was taken up again after a pause ends with the workflow.
        self._ends_with_workflow = settings.is_workflow or resumed
        self._in_pieces = False
        self.conversation_id = ""
        self.task_id = ""
        self.workflow_run_id = ""
        self.form: Mapping[str, Any] = {}
        self.complete = False
        self.paused = False

    def take(self, event: Mapping[str, Any]) -> Iterator[RunResult]:
        """One event of the stream."""
        self.task_id = text_at(event, "task_id") or self.task_id
        self.conversation_id = text_at(event, "conversation_id") or self.conversation_id
        self.workflow_run_id = text_at(event, "workflow_run_id") or self.workflow_run_id
        match text_at(event, "event"):
            case "agent_message":
                self._in_pieces = True
                yield from self._answer.say(text_at(event, "answer"))
            case "message":
                # After the pieces of an agent comes the whole once more.
                say = self._answer.catch_up if self._in_pieces else self._answer.say
                yield from say(text_at(event, "answer"))
            case "text_chunk":
                yield from self._answer.say(text_at(event, "data", "text"))
            case "message_replace":
                self._answer.replace(text_at(event, "answer"))
            case "text_replace":
                self._answer.replace(text_at(event, "data", "text"))
            case "reasoning_chunk":
                yield from self._answer.think(text_at(event, "data", "reasoning"))
            case "agent_thought":
                yield from self._thought(event)
            case "message_file":
                if text_at(event, "belongs_to") != "user" and text_at(event, "url"):
                    self._answer.attach(Made(text_at(event, "url")))
            case _:
                yield from self._progress(event)

    def _progress(self, event: Mapping[str, Any]) -> Iterator[RunResult]:
        match text_at(event, "event"):
            case "message_end":
                self.take_metadata(object_at(event, "metadata"))
                self.complete = True
            case "node_started":
                yield Progress(text_at(event, "data", "title")[:200])
            case "human_input_required":
                self.form = object_at(event, "data")
            case "workflow_paused":
                self.pause(object_at(event, "data"))
            case "workflow_finished":
                yield from self.take_workflow(object_at(event, "data"))
            case "error":
                raise self._service.reported(text_at(event, "code"), text_at(event, "message"))

    def pause(self, data: Mapping[str, Any]) -> None:
        """The workflow waits for people; what it asks was told before, or stands among the reasons."""
        self.paused = True
        self.workflow_run_id = text_at(data, "workflow_run_id") or self.workflow_run_id
        named = [one for one in objects_at(data, "reasons") if "form_id" in one or "form_token" in one]
        self.form = self.form or next(iter(named), {})

    def take_workflow(self, data: Mapping[str, Any]) -> Iterator[RunResult]:
        """The end of a workflow, or of the one inside a chatflow."""
        status = text_at(data, "status")
        if status not in ("succeeded", "partial-succeeded"):
            text = text_at(data, "error") or f"the workflow is {status or 'in no known state'}"
            raise self._service.reported(status, text)
        for file in objects_at(data, "files"):
            if url := text_at(file, "url") or text_at(file, "remote_url"):
                self._answer.attach(Made(url, text_at(file, "filename"), text_at(file, "mime_type")))
        if self._settings.is_workflow:
            if (tokens := number_at(data, "total_tokens")) is not None:
                self._answer.usage = Usage(output_tokens=tokens)
            yield from self._answer.catch_up(self._output(object_at(data, "outputs")) or self._answer.text)
        elif self._ends_with_workflow:
            # A chatflow that was taken up again may tell its answer, or the beginning of it, with the end alone.
            answer = text_at(data, "outputs", "answer")
            yield from self._answer.catch_up(answer or self._answer.text or self._output(object_at(data, "outputs")))
        self.complete = self.complete or self._ends_with_workflow

    def take_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Usage, and where the answer comes from."""
        usage = object_at(metadata, "usage")
        if usage:
            self._answer.usage = Usage(number_at(usage, "prompt_tokens"), number_at(usage, "completion_tokens"))
        for found in objects_at(metadata, "retriever_resources"):
            self._answer.refer(Reference(text_at(found, "document_name"), text_at(found, "url")))

    def _thought(self, event: Mapping[str, Any]) -> Iterator[RunResult]:
        if self._settings.mode == "agent" and text_at(event, "thought") != self._answer.text:
            yield from self._answer.think(text_at(event, "thought"))
        tool, observation = text_at(event, "tool"), text_at(event, "observation")
        if tool:
            call_id = text_at(event, "id") or tool
            if not observation:
                yield ToolCallStarted(call_id, tool[:200], _arguments(text_at(event, "tool_input")))
            else:
                yield ToolCallCompleted(call_id, tool[:200], observation)

    def _output(self, outputs: Mapping[str, Any]) -> str:
        """The text among a workflow's outputs."""
        wanted = self._settings.output_variable
        if wanted and wanted not in outputs:
            names = ", ".join(outputs) or "none"
            raise ServiceFailure(
                "service.misconfigured",
                f"the workflow has no output {wanted!r}, only {names}; correct config.output_variable",
            )
        names_in_turn = (wanted,) if wanted else (*_USUAL_OUTPUTS, *(outputs if len(outputs) == 1 else ()))
        value = next((outputs[name] for name in names_in_turn if outputs.get(name)), None)
        if value is None and outputs and not self._answer.text:
            value = outputs
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value is not None else ""


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = parse(text or "{}")
    except ValueError:
        return {"input": text}
    return value if isinstance(value, dict) else {"input": value}
