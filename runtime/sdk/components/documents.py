"""Documents on their way to a parser or an engine."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from portway.rpc.errors import PayloadTooLarge
from portway.runtime.sdk.types.convert import Json

# What `read` takes where it is not told otherwise.
READ_BYTES = 64 * 1024 * 1024
MAX_SECTION_CHARACTERS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document as text. `headings` are those above it, the outermost first; `page` is 0 for none."""

    text: str
    headings: tuple[str, ...] = ()
    page: int = 0
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentHead:
    """What is known of a document before its content."""

    document_id: str = ""
    name: str = ""
    media_type: str = ""
    sha256: str = ""
    metadata: Json = field(default_factory=dict)


class IncomingDocument:
    """A document whose content arrives while it is read: as sections, or as bytes. It is read once."""

    def __init__(self, head: DocumentHead, content: AsyncIterator[Section | bytes]) -> None:
        self.head = head
        self._content = content

    async def sections(self) -> AsyncIterator[Section]:
        """Its sections; bytes are left out. Raises `InvalidInput` where it ends before it is whole."""
        async for one in self._content:
            if isinstance(one, Section):
                yield one

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes; sections are left out. Raises as `sections`."""
        async for one in self._content:
            if isinstance(one, bytes):
                yield one

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """All of its bytes. Raises `PayloadTooLarge` over the limit."""
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > limit:
                raise PayloadTooLarge(f"the document has more than {limit} bytes")
        return bytes(content)

    async def skip(self) -> None:
        """Goes past what was not read, so that the next document can be."""
        async for _ in self._content:
            pass
