"""Pages of things that have an id."""

from collections.abc import Mapping
from typing import TypeVar

from portway.rpc.cursor import CursorCodec

DEFAULT_SIZE = 50

T = TypeVar("T")


class Pages:
    """Page tokens of this server; they end with it."""

    def __init__(self, cursors: CursorCodec) -> None:
        self._cursors = cursors

    def take(self, listing: str, things: Mapping[str, T], size: int, token: str) -> tuple[list[T], str]:
        """A page in order of id, and the token of the next one. Raises `InvalidInput` for a token of another list."""
        after = self._cursors.read_page(token, listing) if token else ""
        size = size or DEFAULT_SIZE
        ids = sorted(one for one in things if one > after)
        page = ids[:size]
        following = self._cursors.write_page(listing, page[-1]) if len(ids) > size else ""
        return [things[one] for one in page], following
