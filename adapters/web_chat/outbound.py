"""Deliveries to the page: it shows the transcript, so what is delivered is that there is something new in it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.kit.platform import Refused, RetryLater, Sent
from portway.adapters.kit.types import (
    LinkKind,
    LinkState,
    OutAction,
    Outbound,
    OutEdit,
    OutMessage,
    OutQuestion,
    Piece,
    Target,
)
from portway.adapters.web_chat.limits import LIMITS
from portway.rpc.errors import PortwayError


class OpenRooms(Protocol):
    """The conversations that somebody looks at."""

    async def bring_up_to_date(self, conversation_id: str) -> None: ...

    async def show_again(self, conversation_id: str) -> None: ...

    def run_changed(self, update: LiveUpdate) -> None: ...

    def typing_changed(self, conversation_id: str, on: bool) -> None: ...

    def connected(self) -> None: ...


class OpenPages(Protocol):
    """All pages that are open."""

    def tell_all(self, state: LinkState) -> None: ...


class WebPlatform:
    """The web chat as a platform. A page that is not open reads the message when it is opened again."""

    def __init__(self, rooms: OpenRooms, pages: OpenPages) -> None:
        self._rooms = rooms
        self._pages = pages

    async def send(self, piece: Piece) -> Sent:
        payload = piece.outbound.payload
        await self._show(piece.outbound, self._rooms.bring_up_to_date)
        return Sent(payload.item_id if isinstance(payload, OutMessage) else "")

    async def act(self, outbound: Outbound) -> Sent:
        payload = outbound.payload
        if isinstance(payload, OutQuestion):
            await self._show(outbound, self._rooms.bring_up_to_date)
            # The item of the transcript has the number of its delivery.
            return Sent("msg_" + outbound.delivery_id.removeprefix("dlv_"))
        can = isinstance(payload, OutAction) and payload.action in LIMITS.platform_actions
        if can or isinstance(payload, OutEdit):
            # The host has changed its transcript already, and that is what the page shows.
            await self._show(outbound, self._rooms.show_again)
            return Sent()
        kind = type(payload).__name__.removeprefix("Out").lower()
        raise Refused(f"the web chat has no such {kind}; its capabilities say so", code="platform.not_supported")

    async def was_sent(self, piece: Piece) -> Sent | None:
        """A message that is shown twice is shown once."""
        return None

    def run_changed(self, update: LiveUpdate) -> None:
        self._rooms.run_changed(update)

    def typing_changed(self, target: Target, on: bool) -> None:
        self._rooms.typing_changed(target.conversation_id, on)

    def link_changed(self, state: LinkState) -> None:
        self._pages.tell_all(state)
        if state.kind is LinkKind.CONNECTED:
            self._rooms.connected()

    async def _show(self, outbound: Outbound, show: Callable[[str], Awaitable[None]]) -> None:
        try:
            await show(outbound.conversation_id)
        except PortwayError as error:
            raise RetryLater(
                f"the transcript of {outbound.conversation_id} could not be read: {error.message}",
                retry_after=error.retry_after,
            ) from error
