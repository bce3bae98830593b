"""How what people send, and what happens, looks to a model."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from portway.runtime.sdk import (
    ArtifactRef,
    CardPart,
    HostApi,
    ImagePart,
    LocationPart,
    MentionPart,
    ModelMessage,
    Part,
    QuotePart,
    RunContext,
    RunInput,
    TextPart,
    text_part,
)
from portway.runtime.sdk.types.content import AnswerPart, AudioPart, FilePart, QuestionPart, VideoPart
from portway.runtime.sdk.types.interactions import InteractionAnswer

MAX_INLINE_BYTES = 64 * 1024
# What the host gives to a model; larger pictures are described.
MAX_PICTURE_BYTES = 10 * 1024 * 1024
MAX_EVENT = 16_000
# Events in which somebody said something. All others are data.
SAID = ("", "message.received", "message.edited", "api.invoked", "interaction.submitted")
_MEDIA: dict[type, str] = {ImagePart: "image", AudioPart: "audio", VideoPart: "video", FilePart: "file"}
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


def is_group(ctx: RunContext) -> bool:
    return ctx.conversation.launcher_type in ("group", "channel")


def is_said(ctx: RunContext) -> bool:
    return ctx.event.type in SAID or ctx.event.type.startswith("chat.")


async def message_of(said: RunInput, author: str, host: HostApi, *, edited: bool = False) -> ModelMessage:
    """What a person sent, as a message of the user. Small text files are written out, pictures stay pictures."""
    parts: list[Part] = [text_part(f"{author}: ")] if author else []
    if edited:
        parts.append(text_part("(an edited message, as it reads now) "))
    for part in said.contents or ((text_part(said.text),) if said.text else ()):
        parts.append(await _part(part, host))
    inside = {artifact.artifact_id for artifact in artifacts_in(said.contents)}
    for artifact in said.attachments:
        if artifact.artifact_id not in inside:
            parts.append(text_part(await _file(artifact, "file", "", host)))
    if said.interaction is not None:
        parts.append(text_part(f"({_answer(said.interaction)})"))
    return ModelMessage.user("", *parts)


def event_message(ctx: RunContext) -> ModelMessage:
    """An event that nobody said, as data: never dressed up as a person's words."""
    known = {
        "event": ctx.event.type,
        "time": ctx.event.time.isoformat() if ctx.event.time else "",
        "source": ctx.event.source,
        "actor": {"type": ctx.actor.type, "id": ctx.actor.id, "name": ctx.actor.name},
        "subject": {"type": ctx.subject.type, "id": ctx.subject.id, "data": ctx.subject.data},
        "data": ctx.event.data,
    }
    text = json.dumps(known, ensure_ascii=False)
    if len(text) > MAX_EVENT:
        text = f"{text[:MAX_EVENT]}… ({len(text) - MAX_EVENT:,} characters left out)"
    return ModelMessage.user(f"[an event; nobody wrote this] {text}")


def answer_words(answer: InteractionAnswer) -> str:
    """What a person chose or filled in, for the model that asked."""
    return json.dumps({"action": answer.action_id, "values": dict(answer.values)}, ensure_ascii=False)


def for_eyes(message: ModelMessage, *, seeing: bool) -> ModelMessage:
    """The message for a model that sees pictures, or does not: those are described."""
    if seeing or not any(isinstance(part.content, ImagePart) for part in message.parts):
        return message
    return replace(message, parts=tuple(_described_picture(part) for part in message.parts))


def without_files(parts: Sequence[Part], *, pictures: bool) -> Iterator[Part]:
    """Parts of an earlier message: files are described, pictures too unless `pictures`."""
    for part in parts:
        content = part.content
        if isinstance(content, TextPart) or (pictures and isinstance(content, ImagePart) and is_showable(content)):
            yield part
        elif isinstance(content, ImagePart | AudioPart | VideoPart | FilePart):
            yield text_part(f"{about(content.artifact, _MEDIA[type(content)], content.caption)}\n")
        else:
            yield text_part(_described(content))


def is_showable(picture: ImagePart) -> bool:
    mime_type = picture.artifact.mime_type
    return picture.artifact.size <= MAX_PICTURE_BYTES and (not mime_type or mime_type.startswith("image/"))


def artifacts_in(parts: Sequence[Part]) -> list[ArtifactRef]:
    media = [part.content for part in parts]
    return [one.artifact for one in media if isinstance(one, ImagePart | AudioPart | VideoPart | FilePart)]


def about(artifact: ArtifactRef, kind: str, caption: str) -> str:
    """One line that says what a file is, with the id under which it can be read."""
    facts = [artifact.name or artifact.artifact_id, artifact.mime_type, f"{artifact.size:,} bytes"]
    if artifact.name and artifact.artifact_id:
        facts.append(f"id {artifact.artifact_id}")
    told = f"[{kind}: {', '.join(one for one in facts if one)}]"
    return " ".join(one for one in (told, caption, artifact.summary) if one)


async def _part(part: Part, host: HostApi) -> Part:
    content = part.content
    if isinstance(content, TextPart) or (isinstance(content, ImagePart) and is_showable(content)):
        return part
    if isinstance(content, ImagePart | AudioPart | VideoPart | FilePart):
        return text_part(await _file(content.artifact, _MEDIA[type(content)], content.caption, host))
    return text_part(_described(content))


def _described_picture(part: Part) -> Part:
    if isinstance(part.content, ImagePart):
        return text_part(about(part.content.artifact, "image", part.content.caption) + "\n")
    return part


def _described(
    content: MentionPart | QuotePart | LocationPart | CardPart | QuestionPart | AnswerPart | None,
) -> str:
    match content:
        case MentionPart(name=name, actor_id=actor_id):
            return f"@{name or actor_id} "
        case QuotePart(text=text):
            return "".join(f"> {line}\n" for line in text.splitlines())
        case LocationPart(latitude=latitude, longitude=longitude, name=name):
            return f"[place: {name} {latitude:.5f}, {longitude:.5f}]"
        case CardPart(title=title, fallback_text=text):
            return f"[card: {title}] {text}"
        case QuestionPart(interaction=asked):
            return f"[asked: {asked.title}] {asked.description or asked.fallback_text}"
        case AnswerPart(answer=answer, title=title):
            return f"[{title}: {_answer(answer)}]"
        case None:
            return "[something that this version cannot show]"


def _answer(answer: InteractionAnswer) -> str:
    values = json.dumps(answer.values, ensure_ascii=False)
    return f"answered the question with {answer.action_id or 'values'}: {values}"


async def _file(artifact: ArtifactRef, kind: str, caption: str, host: HostApi) -> str:
    text = about(artifact, kind, caption)
    if artifact.mime_type.startswith(_TEXT_TYPES) and 0 < artifact.size <= MAX_INLINE_BYTES:
        content = (await host.artifacts.read(artifact.artifact_id)).decode(errors="replace")
        return f"{text}\n{content}\n"
    return f"{text}\n"
