"""Parsers: they make sections of text from the bytes of a document."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from portway.runtime.sdk.components.call import ComponentCall
from portway.runtime.sdk.components.documents import IncomingDocument, Section


class Parser(ABC):
    """A parser. A new instance is made for each document."""

    @abstractmethod
    def parse(self, document: IncomingDocument, call: ComponentCall) -> AsyncIterator[Section]:
        """Written as `async def parse(self, document, call)` with `yield`.

        Raises `InvalidInput` for a document that is broken or of another type. What it yields in all, and what it may
        be given, is limited by its manifest; its memory by the plugin's.
        """
