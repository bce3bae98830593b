"""Marking content parts with where they come from. What a sender or a runner says of it is replaced."""

from collections.abc import Iterable
from dataclasses import dataclass

from portway.v1 import content_pb2, event_pb2

# Sources of the host itself, for example of its schedules.
HOST_SOURCES = "portway."
MEDIA = ("image", "audio", "video", "file")
_TOOL = "tool "


def mark_event(event: event_pb2.Event, *, edited: bool = False) -> None:
    """The parts of an event: of its actor on its surface, or of the operator where the host itself submits it."""
    if not event.parts:
        return
    source = source_of_event(event, edited=edited)
    for part in event.parts:
        part.provenance.CopyFrom(source)


def source_of_event(event: event_pb2.Event, *, edited: bool = False) -> content_pb2.Provenance:
    """Somebody without an id is nobody who is known."""
    source = content_pb2.Provenance(surface=event.address.surface, edited=edited)
    if event.source.startswith(HOST_SOURCES):
        source.kind, source.id = content_pb2.SOURCE_KIND_OPERATOR, event.source
    elif event.actor.id:
        source.kind, source.id = content_pb2.SOURCE_KIND_USER, event.actor.id
    return source


@dataclass(frozen=True, slots=True)
class Speaker:
    """What a run says: by the model that it asked last through the host, or by its runner where it asked none."""

    run_id: str
    runner_id: str
    model_id: str = ""

    def mark(self, parts: Iterable[content_pb2.ContentPart], masked: Iterable[bool] = (), edited: bool = False) -> None:
        """Every part of one message. Files that a tool made are still the tool's."""
        for part, is_masked in zip(parts, _or_false(masked), strict=False):
            made = _made_by_tool(part)
            part.provenance.CopyFrom(made if made is not None else self._source())
            part.provenance.masked, part.provenance.edited = is_masked, edited

    def _source(self) -> content_pb2.Provenance:
        if self.model_id:
            return content_pb2.Provenance(kind=content_pb2.SOURCE_KIND_MODEL, id=self.model_id, run_id=self.run_id)
        return content_pb2.Provenance(kind=content_pb2.SOURCE_KIND_RUNNER, id=self.runner_id, run_id=self.run_id)


def tool_source(tool: str, call_id: str, run_id: str) -> content_pb2.Provenance:
    """Of a tool's result and of the files that it made."""
    return content_pb2.Provenance(kind=content_pb2.SOURCE_KIND_TOOL, id=tool, call_id=call_id, run_id=run_id)


def tool_creator(tool: str, call_id: str) -> str:
    """As it is kept with an artifact."""
    return f"{_TOOL}{tool} {call_id}"


def source_of_artifact(creator: str, run_id: str) -> content_pb2.Provenance | None:
    """Nothing for what a person or a program has uploaded: the part that it is in tells of whom."""
    if not run_id:
        return None
    if creator.startswith(_TOOL):
        tool, _, call_id = creator.removeprefix(_TOOL).partition(" ")
        return tool_source(tool, call_id, run_id)
    return content_pb2.Provenance(kind=content_pb2.SOURCE_KIND_RUNNER, id=creator, run_id=run_id)


def _made_by_tool(part: content_pb2.ContentPart) -> content_pb2.Provenance | None:
    kind = part.WhichOneof("kind")
    if kind not in MEDIA:
        return None
    source: content_pb2.Provenance = getattr(part, kind).artifact.provenance
    return source if source.kind == content_pb2.SOURCE_KIND_TOOL else None


def _or_false(values: Iterable[bool]) -> Iterable[bool]:
    yield from values
    while True:
        yield False
