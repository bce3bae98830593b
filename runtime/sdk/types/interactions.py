"""Structured questions to people, their answers, and what a platform is asked to do."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

from portway.runtime.sdk.types.convert import ANY_JSON, Json
from portway.v1 import interaction_pb2 as pb


class InteractionKind(IntEnum):
    UNSPECIFIED = pb.INTERACTION_KIND_UNSPECIFIED
    FORM = pb.INTERACTION_KIND_FORM
    CONFIRMATION = pb.INTERACTION_KIND_CONFIRMATION
    CHOICE = pb.INTERACTION_KIND_CHOICE


class InteractionFieldType(IntEnum):
    UNSPECIFIED = pb.INTERACTION_FIELD_TYPE_UNSPECIFIED
    TEXT = pb.INTERACTION_FIELD_TYPE_TEXT
    TEXTAREA = pb.INTERACTION_FIELD_TYPE_TEXTAREA
    SELECT = pb.INTERACTION_FIELD_TYPE_SELECT
    MULTISELECT = pb.INTERACTION_FIELD_TYPE_MULTISELECT
    NUMBER = pb.INTERACTION_FIELD_TYPE_NUMBER
    BOOLEAN = pb.INTERACTION_FIELD_TYPE_BOOLEAN
    FILE = pb.INTERACTION_FIELD_TYPE_FILE


class ActionStyle(IntEnum):
    UNSPECIFIED = pb.ACTION_STYLE_UNSPECIFIED
    DEFAULT = pb.ACTION_STYLE_DEFAULT
    PRIMARY = pb.ACTION_STYLE_PRIMARY
    DANGER = pb.ACTION_STYLE_DANGER


@dataclass(frozen=True, slots=True)
class InteractionOption:
    value: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class InteractionField:
    """One field of a form; `id` is the key of its answer."""

    id: str = ""
    label: str = ""
    type: InteractionFieldType = InteractionFieldType.TEXT
    required: bool = False
    options: tuple[InteractionOption, ...] = ()
    placeholder: str = ""
    default_value: Annotated[Any, ANY_JSON] | None = None


@dataclass(frozen=True, slots=True)
class InteractionAction:
    """One button."""

    id: str = ""
    label: str = ""
    style: ActionStyle = ActionStyle.DEFAULT


@dataclass(frozen=True, slots=True)
class Interaction:
    """A question. `fallback_text` is for surfaces that cannot show it, and is required; 256 KiB in all."""

    interaction_id: str = ""
    kind: InteractionKind = InteractionKind.UNSPECIFIED
    title: str = ""
    description: str = ""
    fields: tuple[InteractionField, ...] = ()
    actions: tuple[InteractionAction, ...] = ()
    expire_time: datetime | None = None
    fallback_text: str = ""
    only_asked_actor: bool = False


@dataclass(frozen=True, slots=True)
class InteractionAnswer:
    """What a person submitted; `values` has the fields by id."""

    interaction_id: str = ""
    run_id: str = ""
    action_id: str = ""
    values: Json = field(default_factory=dict)
    actor_id: str = ""


@dataclass(frozen=True, slots=True)
class PlatformAction:
    """Something a platform is asked to do that is no message; an empty target means the event's own."""

    action: str = ""
    target: str = ""
    payload: Json = field(default_factory=dict)
