"""Questions of a paused workflow: as interactions, and their answers as Dify takes them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from portway.runtime.sdk import (
    Interaction,
    InteractionAction,
    InteractionAnswer,
    InteractionField,
    InteractionFieldType,
    InteractionKind,
    InteractionOption,
)
from portway.runtime.sdk.service import ServiceFailure
from portway.runtime.sdk.service.reading import number_at, object_at, objects_at, text_at
from portway.runtime.sdk.types.interactions import ActionStyle

MAX_TEXT = 4000
_TYPES = {
    "paragraph": InteractionFieldType.TEXTAREA,
    "text-input": InteractionFieldType.TEXT,
    "select": InteractionFieldType.SELECT,
    "number": InteractionFieldType.NUMBER,
}
_STYLES = {"primary": ActionStyle.PRIMARY, "accent": ActionStyle.PRIMARY}


def question_of(form: Mapping[str, Any], interaction_id: str) -> Interaction:
    """Raises `ServiceFailure` for a form that cannot be answered from here."""
    if not text_at(form, "form_token"):
        raise ServiceFailure(
            "service.unsupported",
            "Dify waits for people by mail: the form of its Human Input node has no token; "
            "choose the delivery method WebApp there",
        )
    fields = tuple(_field(one) for one in objects_at(form, "inputs"))
    given = objects_at(form, "actions") or objects_at(form, "user_actions")
    actions = tuple(
        InteractionAction(
            text_at(one, "id"), text_at(one, "title"), _STYLES.get(text_at(one, "button_style"), ActionStyle.DEFAULT)
        )
        for one in given
    )
    title = text_at(form, "node_title") or "A question"
    description = text_at(form, "form_content")[:MAX_TEXT]
    return Interaction(
        interaction_id=interaction_id,
        kind=InteractionKind.FORM if fields else InteractionKind.CONFIRMATION,
        title=title[:200],
        description=description,
        fields=fields,
        actions=actions,
        expire_time=_expiry(form),
        fallback_text=_fallback(title, description, fields, actions),
    )


def submission_of(answer: InteractionAnswer, user: str) -> dict[str, Any]:
    """What Dify wants to know: its forms take texts."""
    inputs = {name: value if isinstance(value, str) else str(value) for name, value in answer.values.items()}
    return {"inputs": inputs, "action": answer.action_id, "user": user}


def _field(described: Mapping[str, Any]) -> InteractionField:
    kind = text_at(described, "type")
    name = text_at(described, "output_variable_name")
    if kind not in _TYPES:
        raise ServiceFailure(
            "service.unsupported", f"the form of Dify has the field {name!r} of type {kind}, which is not supported"
        )
    source = object_at(described, "option_source")
    options = [one for one in source.get("value") or described.get("options") or () if isinstance(one, str)]
    return InteractionField(
        id=name,
        label=text_at(described, "label") or name,
        type=_TYPES[kind],
        required=kind == "select",
        options=tuple(InteractionOption(one, one) for one in options),
        default_value=text_at(described, "default", "value") or None,
    )


def _expiry(form: Mapping[str, Any]) -> datetime | None:
    """When Dify stops waiting, as far as the host waits that long (24 hours)."""
    seconds = number_at(form, "expiration_time")
    if not seconds or seconds > 32_000_000_000:
        return None
    now = datetime.now(UTC).timestamp()
    return datetime.fromtimestamp(min(seconds, now + 86_000), UTC) if seconds > now else None


def _fallback(
    title: str, description: str, fields: Sequence[InteractionField], actions: Sequence[InteractionAction]
) -> str:
    lines = [title, description, *(f"- {one.label}" for one in fields), " / ".join(one.label for one in actions)]
    return "\n".join(line for line in lines if line)
