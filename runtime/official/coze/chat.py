"""What Coze sends while a bot answers, as results of the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from portway.runtime.official.coze.settings import Settings
from portway.runtime.sdk import Progress, RunResult, Usage
from portway.runtime.sdk.service import Answer, Service, ServiceFailure
from portway.runtime.sdk.service.events import ServerEvent
from portway.runtime.sdk.service.reading import number_at, object_at, object_of, text_at

NAME = "Coze"


class Chat:
    """One answer of a bot."""

    def __init__(self, service: Service, settings: Settings, answer: Answer) -> None:
        self._service = service
        self._settings = settings
        self._answer = answer
        self._speaking = ""
        self._streamed: set[str] = set()
        self._follow_ups: list[str] = []
        self.conversation_id = ""
        self.chat_id = ""
        self.complete = False

    def take(self, event: ServerEvent) -> Iterator[RunResult]:
        """One event of the stream."""
        if event.name == "done":
            return
        if event.name == "error" and not event.data.lstrip().startswith("{"):
            raise self._service.reported("", event.data)
        data = object_of(NAME, event.data)
        match event.name:
            case "conversation.message.delta":
                yield from self._delta(data)
            case "conversation.message.completed":
                yield from self.take_message(data)
            case "error":
                raise self._service.reported(data.get("code"), data.get("msg"))
            case name if name.startswith("conversation.chat."):
                self.take_state(data)

    def take_state(self, data: Mapping[str, Any]) -> None:
        """The chat's own record: where it is, and how it stands."""
        self.conversation_id = text_at(data, "conversation_id") or self.conversation_id
        self.chat_id = text_at(data, "id") or self.chat_id
        match text_at(data, "status"):
            case "completed":
                usage = object_at(data, "usage")
                self._answer.usage = Usage(number_at(usage, "input_count"), number_at(usage, "output_count"))
                self.complete = True
            case "failed":
                error = object_at(data, "last_error")
                raise self._service.reported(error.get("code"), error.get("msg"))
            case "canceled":
                raise ServiceFailure("service.failed", "the chat was cancelled at Coze")
            case "requires_action":
                raise ServiceFailure(
                    "service.unsupported",
                    "the bot asks for the results of tools that the caller should run (requires_action); "
                    "give it plugins that run at Coze instead",
                )

    def take_message(self, data: Mapping[str, Any]) -> Iterator[RunResult]:
        """A whole message: of the answer, of which the pieces may have been streamed, or beside it."""
        match text_at(data, "type"):
            case "answer" if text_at(data, "id") not in self._streamed:
                yield from self._begin(data)
                yield from self._answer.think(text_at(data, "reasoning_content"))
                yield from self._answer.say(_content(data))
            case "follow_up":
                self._follow_ups.append(text_at(data, "content"))
            case "function_call":
                yield Progress("calls a plugin")

    def follow_ups(self) -> Iterator[RunResult]:
        """The questions that the bot suggests, under its answer."""
        if self._settings.show_follow_ups and self._follow_ups:
            yield from self._answer.say("\n\n" + "\n".join(f"- {one}" for one in self._follow_ups[:10]))

    def _delta(self, data: Mapping[str, Any]) -> Iterator[RunResult]:
        if text_at(data, "type") not in ("answer", ""):
            return
        yield from self._begin(data)
        self._streamed.add(text_at(data, "id"))
        yield from self._answer.think(text_at(data, "reasoning_content"))
        if text_at(data, "content_type") not in ("card", "audio"):
            yield from self._answer.say(text_at(data, "content"))

    def _begin(self, data: Mapping[str, Any]) -> Iterator[RunResult]:
        """An answer of several messages is one with paragraphs."""
        message_id = text_at(data, "id")
        if self._speaking not in ("", message_id) and self._answer.text:
            yield from self._answer.say("\n\n")
        self._speaking = message_id


def _content(data: Mapping[str, Any]) -> str:
    """A card is drawn by the surfaces of Coze alone; spoken words are told in their text, too."""
    match text_at(data, "content_type"):
        case "card":
            return "[card]"
        case "audio":
            return ""
    return text_at(data, "content")
