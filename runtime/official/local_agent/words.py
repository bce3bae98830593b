"""How what people send looks to a model."""

import json
from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
from portway.runtime.sdk.types.content import AudioPart, FilePart, VideoPart

MAX_INLINE_BYTES = 64 * 1024
MESSAGE_EVENTS = ("message.", "interaction.", "chat.")
_MEDIA: dict[type, str] = {ImagePart: "image", AudioPart: "audio", VideoPart: "video", FilePart: "file"}
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


def tokens_in(text: str) -> int:
    """A rough count, on the safe side: four characters of ASCII, or one of any other script, are a token."""
    plain = sum(1 for character in text if character < "\x80") if not text.isascii() else len(text)
    return plain // 4 + (len(text) - plain) + 1


def surroundings(ctx: RunContext) -> str:
    """What the model should know of where it is. It changes by the day, so that a prompt cache stays warm."""
    lines = []
    if ctx.trigger.time is not None:
        try:
            zone = ZoneInfo(ctx.runtime.time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            zone = ZoneInfo("UTC")
        lines.append(f"Today is {ctx.trigger.time.astimezone(zone):%A, %Y-%m-%d} ({zone.key}).")
    if is_group(ctx):
        lines.append("Several people write in this conversation; each message begins with its author's name.")
    if not is_message(ctx):
        data = json.dumps(ctx.event.data, ensure_ascii=False)
        lines.append(f"Nobody wrote: this is the event {ctx.event.type} with the data {data}.")
    return "\n".join(lines)


def is_group(ctx: RunContext) -> bool:
    return ctx.conversation.launcher_type in ("group", "channel")


def is_message(ctx: RunContext) -> bool:
    return ctx.event.type.startswith(MESSAGE_EVENTS) or not ctx.event.type


async def message_of(said: RunInput, author: str, host: HostApi, *, vision: bool) -> ModelMessage:
    """What a person sent, as a message of the user. Small text files are written out."""
    parts: list[Part] = [text_part(f"{author}: ")] if author else []
    for part in said.contents or ((text_part(said.text),) if said.text else ()):
        parts.append(await _part(part, host, vision=vision))
    inside = {artifact.artifact_id for artifact in _artifacts(said.contents)}
    for artifact in said.attachments:
        if artifact.artifact_id not in inside:
            parts.append(text_part(await _file(artifact, "file", "", host)))
    if said.interaction is not None:
        values = json.dumps(said.interaction.values, ensure_ascii=False)
        parts.append(text_part(f"(answered the question with {said.interaction.action_id or 'values'}: {values})"))
    return ModelMessage.user("", *parts)


async def _part(part: Part, host: HostApi, *, vision: bool) -> Part:
    content = part.content
    if isinstance(content, TextPart) or (isinstance(content, ImagePart) and vision):
        return part
    if isinstance(content, ImagePart | AudioPart | VideoPart | FilePart):
        return text_part(await _file(content.artifact, _MEDIA[type(content)], content.caption, host))
    return text_part(_described(content))


def _described(content: MentionPart | QuotePart | LocationPart | CardPart | None) -> str:
    match content:
        case MentionPart(name=name, actor_id=actor_id):
            return f"@{name or actor_id} "
        case QuotePart(text=text):
            return "".join(f"> {line}\n" for line in text.splitlines())
        case LocationPart(latitude=latitude, longitude=longitude, name=name):
            return f"[place: {name} {latitude:.5f}, {longitude:.5f}]"
        case CardPart(title=title, fallback_text=text):
            return f"[card: {title}] {text}"
        case None:
            return "[something that this version cannot show]"


async def _file(artifact: ArtifactRef, kind: str, caption: str, host: HostApi) -> str:
    about = f"[{kind}: {artifact.name or artifact.artifact_id}, {artifact.mime_type}, {artifact.size:,} bytes]"
    text = " ".join(one for one in (about, caption, artifact.summary) if one)
    if artifact.mime_type.startswith(_TEXT_TYPES) and 0 < artifact.size <= MAX_INLINE_BYTES:
        content = (await host.artifacts.read(artifact.artifact_id)).decode(errors="replace")
        return f"{text}\n{content}\n"
    return f"{text}\n"


def _artifacts(parts: Sequence[Part]) -> list[ArtifactRef]:
    media = [part.content for part in parts]
    return [one.artifact for one in media if isinstance(one, ImagePart | AudioPart | VideoPart | FilePart)]
