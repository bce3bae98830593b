"""`ask_person`: a structured question to the people of the chat, which ends the run; the answer goes on with it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portway.runtime.official.local_agent.tools.arguments import BadArguments
from portway.runtime.official.local_agent.tools.own import text_argument
from portway.runtime.sdk import (
    Interaction,
    InteractionAction,
    InteractionField,
    InteractionFieldType,
    InteractionKind,
    InteractionOption,
    ToolResource,
    ToolResult,
)
from portway.runtime.sdk.types.interactions import ActionStyle

ASK_PERSON = "ask_person"
MAX_TITLE, MAX_TEXT, MAX_LABEL = 500, 8_000, 200
MAX_OPTIONS, MAX_FIELDS = 20, 20
_TYPES = {kind.name.lower(): kind for kind in InteractionFieldType if kind.value}
_SUBMIT = InteractionAction("submit", "OK", ActionStyle.PRIMARY)
_CANCEL = InteractionAction("cancel", "Cancel")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "description": "What you need to know, as a sentence."},
        "options": {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_OPTIONS,
            "description": "Answers to choose from. Without options and fields it is a question for yes or no.",
        },
        "fields": {
            "type": "array",
            "maxItems": MAX_FIELDS,
            "description": "A form to fill in, instead of options.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "label": {"type": "string"},
                    "type": {"type": "string", "enum": sorted(_TYPES)},
                    "required": {"type": "boolean"},
                    "options": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["id", "label"],
            },
        },
    },
    "required": ["question"],
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, read from the model's arguments."""

    interaction: Interaction

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> "Question":
        """Raises `BadArguments`."""
        text = text_argument(arguments, "question")
        if not text:
            raise BadArguments("arguments.question is missing: write what you want to know")
        options = _texts(arguments.get("options"), "options")[:MAX_OPTIONS]
        fields = _fields(arguments.get("fields"))
        title, _, rest = text.partition("\n")
        description = text[len(title[:MAX_TITLE]) :].strip() if len(title) > MAX_TITLE else rest.strip()
        kind, actions = InteractionKind.CONFIRMATION, _yes_or_no()
        if fields:
            kind, actions = InteractionKind.FORM, (_SUBMIT, _CANCEL)
        elif options:
            kind = InteractionKind.CHOICE
            actions = tuple(InteractionAction(f"option_{number}", one) for number, one in enumerate(options, 1))
        return cls(
            Interaction(
                # The same question of a second attempt is the first one's.
                interaction_id=f"ask-{_digest(arguments)}",
                kind=kind,
                title=title[:MAX_TITLE],
                description=description[:MAX_TEXT],
                fields=fields,
                actions=actions,
                fallback_text=_in_words(text[:MAX_TEXT], options, fields),
            )
        )


class AskPerson:
    """Shown to the model like a tool; the round itself takes it up."""

    @property
    def shown(self) -> ToolResource:
        return ToolResource(
            ASK_PERSON,
            "runner",
            "Asks the person a question and waits for the answer, however long it takes. Use it only where you cannot "
            "go on without it.",
            _SCHEMA,
        )

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        raise BadArguments("a question is the last call of its turn")


def chosen_words(interaction: Interaction, action_id: str) -> str:
    """The label of the button that was pressed."""
    return next((one.label for one in interaction.actions if one.id == action_id), action_id)


def _digest(arguments: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:16]


def _fields(value: Any) -> tuple[InteractionField, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadArguments("arguments.fields must be a list of {id, label, type}")
    fields = []
    for index, one in enumerate(value[:MAX_FIELDS]):
        name = text_argument(one, "id")[:64] or f"field_{index + 1}"
        options = _texts(one.get("options"), f"fields[{index}].options")
        kind = _TYPES.get(text_argument(one, "type") or ("select" if options else "text"))
        if kind is None:
            raise BadArguments(f"arguments.fields[{index}].type must be one of {', '.join(sorted(_TYPES))}")
        fields.append(
            InteractionField(
                id=name,
                label=text_argument(one, "label")[:MAX_LABEL] or name,
                type=kind,
                required=one.get("required") is True,
                options=tuple(InteractionOption(option, option) for option in options),
            )
        )
    if len({field.id for field in fields}) < len(fields):
        raise BadArguments("arguments.fields: each field needs an id of its own")
    return tuple(fields)


def _texts(value: Any, name: str) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise BadArguments(f"arguments.{name} must be a list of texts")
    return [one.strip()[:MAX_LABEL] for one in value]


def _yes_or_no() -> tuple[InteractionAction, ...]:
    return InteractionAction("yes", "Yes", ActionStyle.PRIMARY), InteractionAction("no", "No")


def _in_words(text: str, options: Sequence[str], fields: Sequence[InteractionField]) -> str:
    """For surfaces that cannot show it."""
    lines = [text, *(f"{number}. {one}" for number, one in enumerate(options, 1))]
    return "\n".join([*lines, *(f"- {field.label}" for field in fields)])
