"""How handlers of streamed calls answer: pushed, so that what collects while the receiver is busy goes out together."""

from typing import Any, Protocol


class Emit(Protocol):
    """Sends one response; waits while the receiver is too slow. `last`: no other response follows."""

    async def __call__(self, response: Any, last: bool = False, /) -> None: ...
