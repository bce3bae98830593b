"""Pages of lists that fit in memory: by the key of the last item, so that changes meanwhile repeat and skip nothing."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from portway.rpc.cursor import CursorCodec

T = TypeVar("T")
Key = tuple[int | float | str, ...]


class Pager:
    """Cuts pages and gives out their tokens."""

    def __init__(self, codec: CursorCodec) -> None:
        self._codec = codec

    def page(
        self, items: Sequence[T], key: Callable[[T], Key], listing: str, token: str, size: int
    ) -> tuple[Sequence[T], str]:
        """The page after `token`, and the next token. `items` are sorted by `key`; `listing` names list and filters."""
        if token:
            last = tuple(json.loads(self._codec.read_page(token, listing)))
            items = [item for item in items if key(item) > last]
        page = items[:size]
        more = len(items) > len(page)
        return page, self._codec.write_page(listing, json.dumps(key(page[-1]))) if more else ""
