"""What every parser must do, whatever it reads."""

import asyncio
from collections.abc import Iterator, Sequence

from portway.rpc.errors import InvalidInput, LimitExceeded, PortwayError
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried, refusal
from portway.runtime.kit.subject import Differs
from portway.runtime.plugins.types import ParserDefinition
from portway.v1 import component_pb2 as pb

PIECE = 256 * 1024
_LOOK = 0.02


def _type(tried: Tried) -> tuple[str, str]:
    """A name and a media type that it says it reads."""
    definition = tried.definition
    if not isinstance(definition, ParserDefinition):
        raise Differs("it is no parser")
    extension = definition.extensions[0] if definition.extensions else ""
    return f"document{extension}", definition.media_types[0] if definition.media_types else ""


async def bears_nothing(tried: Tried) -> None:
    name, media_type = _type(tried)
    await _ends(tried, name, media_type, iter(()))


async def bears_nonsense(tried: Tried) -> None:
    """Bytes that are no document end in sections or in a refusal by meaning, and the next one is read."""
    name, media_type = _type(tried)
    for content in (bytes(range(256)) * 64, b"\xff" * 4096, b"<" * 100_000, b"PK\x03\x04" + b"\0" * 4096):
        await _ends(tried, name, media_type, iter((content,)))


async def refuses_other_types(tried: Tried) -> None:
    await refusal("application/x-nothing", tried.end.parse("x", "application/x-nothing", [b"a"]), InvalidInput)


async def takes_no_half_document(tried: Tried) -> None:
    name, media_type = _type(tried)
    start = tried.end.start(parse_document=pb.ParseDocument(name=name, media_type=media_type))
    async with tried.end.talk(start, pb.ComponentInputFrame(piece=b"half of it")) as talk:
        await talk.finish()
        await refusal("a document without an end", talk.result(), InvalidInput)


async def keeps_to_its_limit(tried: Tried) -> None:
    """More than the manifest allows is refused, by the runtime if by nobody else, and the next document is read."""
    name, media_type = _type(tried)
    pieces = -(-tried.definition.limits.input_bytes // PIECE) + 1
    content = (b"a " * (PIECE // 2) for _ in range(pieces))
    await refusal("too large a document", tried.end.parse(name, media_type, content), LimitExceeded)
    await bears_nothing(tried)


async def is_left_at_once(tried: Tried) -> None:
    name, media_type = _type(tried)
    start = tried.end.start(parse_document=pb.ParseDocument(name=name, media_type=media_type))
    async with tried.end.talk(start, pb.ComponentInputFrame(piece=b"a")):
        pass
    while (await tried.subject.plugin()).run_count:  # noqa: ASYNC110 - nobody tells when a call was given up
        await asyncio.sleep(_LOOK)
    await bears_nothing(tried)


async def _ends(tried: Tried, name: str, media_type: str, content: Iterator[bytes]) -> None:
    try:
        sections = await tried.end.parse(name, media_type, content)
    except (InvalidInput, LimitExceeded):
        return
    except PortwayError as error:
        raise Differs(f"it ended with {type(error).__name__}: {error.message}") from None
    if any(not section.text.strip() for section in sections):
        raise Differs("a section has no text")


GENERAL: Sequence[ComponentBehaviour] = (
    ComponentBehaviour("bears an empty document", bears_nothing),
    ComponentBehaviour("bears nonsense", bears_nonsense),
    ComponentBehaviour("refuses types that it does not read", refuses_other_types),
    ComponentBehaviour("takes no half document", takes_no_half_document),
    ComponentBehaviour("keeps to its limit", keeps_to_its_limit),
    ComponentBehaviour("ends when nobody waits", is_left_at_once),
)
