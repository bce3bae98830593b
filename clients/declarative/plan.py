"""From what is declared and what is there to what has to be done; then doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from portway.clients.declarative.applied import Applied, Thing
from portway.clients.declarative.compare import differences, merged
from portway.clients.declarative.documents import Document
from portway.clients.declarative.hosted import HostedKinds
from portway.clients.declarative.kinds import KINDS, Kind
from portway.rpc.errors import NotFound, PortwayError


class Change(StrEnum):
    """What is done to one thing."""

    CREATE = "+"
    UPDATE = "~"
    DELETE = "-"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that changes, and which of its fields. `document` is None for what is removed."""

    change: Change
    kind: Kind
    id: str
    lines: tuple[str, ...] = ()
    document: Document | None = None
    current: Message | None = None


async def plan(
    documents: Sequence[Document], host: HostedKinds, applied: Applied, pruned: Sequence[Thing]
) -> list[Step]:
    """What has to be done, in order. Changes nothing."""
    names = {document.kind.name for document in documents} | {kind for kind, _ in pruned}
    there = {name: await host.all(KINDS[name]) for name in KINDS if name in names}
    steps: list[Step] = []
    for document in documents:
        current = there[document.kind.name].get(document.id)
        if current is None:
            steps.append(Step(Change.CREATE, document.kind, document.id, document=document))
        elif lines := differences(document, current, applied.places((document.kind.name, document.id))):
            steps.append(Step(Change.UPDATE, document.kind, document.id, tuple(lines), document, current))
    for name in reversed(KINDS):
        for kind, id in pruned:
            if kind == name and id in there[kind] and KINDS[kind].delete is not None:
                steps.append(Step(Change.DELETE, KINDS[kind], id, current=there[kind][id]))
    return steps


async def carry_out(step: Step, host: HostedKinds, applied: Applied) -> None:
    """Raises what the host raises, with the place in the file."""
    document = step.document
    if document is None:
        assert step.current is not None
        try:
            await host.delete(step.kind, step.current)
        except NotFound:
            # It went with something else.
            return
        return
    try:
        if step.current is None:
            await host.create(step.kind, document.resolved(masked=False))
        else:
            before = applied.places((step.kind.name, step.id))
            await host.update(step.kind, merged(document, step.current, before), step.current)
    except PortwayError as error:
        raise type(error)(_placed(document, error), reason=error.reason) from error


def _placed(document: Document, error: PortwayError) -> str:
    """The error with the line of each field that it complains of."""
    lines = [f"{document.where()}: {document.kind.name} {document.id}: {error}"]
    for violation in error.fields:
        place = tuple(violation.field.split(".")[1:])
        lines.append(f"  {document.where(place)}: {'.'.join(place) or violation.field}: {violation.description}")
    return "\n".join(lines)
