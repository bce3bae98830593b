"""What a component may answer: within its limits, one result, nothing after it, in whichever language."""

from typing import Any

from google.protobuf.message import DecodeError, Message

from portway.rpc.errors import InternalError, PayloadTooLarge
from portway.runtime.plugins.types import MIB, ComponentDefinition

MAX_RESULT_BYTES = 1 * MIB
# A frame has 1 MiB of content, and what surrounds it.
MAX_FRAME_BYTES = MAX_RESULT_BYTES + 64 * 1024


class Answers:
    """Looks at what a component says on one call. `done` is set by its result."""

    def __init__(self, component: ComponentDefinition) -> None:
        self._component = component
        self._bytes = 0
        self.done = False

    def read(self, kind: type[Message], raw: bytes) -> Any:
        """The message. Raises `InternalError` for bytes that are none, `PayloadTooLarge` over the component's limit."""
        self._bytes += len(raw)
        if self._bytes > self._component.limits.output_bytes:
            limit = self._component.limits.output_bytes // MIB
            raise PayloadTooLarge(
                f"{self._component.id} answered with more than the {limit} MiB that its manifest allows "
                "(limits.output_mb)"
            )
        try:
            return kind.FromString(raw)
        except DecodeError:
            raise self.wrong("sent bytes that are no message of the contract") from None

    def take(self, kind: str | None, size: int, *, last: bool) -> None:
        """One event of the answer. Raises `InternalError` for one after the result, `PayloadTooLarge` for its size."""
        if self.done:
            raise self.wrong(f"said {kind or 'something'} after its result")
        if size > MAX_FRAME_BYTES:
            raise PayloadTooLarge(f"{self._component.id} sent a {kind} of {size} bytes, and at most 1 MiB is allowed")
        self.done = last

    def finish(self) -> None:
        """The answer has ended. Raises `InternalError` where nothing said so."""
        if not self.done:
            raise self.wrong("ended without a result")

    def wrong(self, what: str) -> InternalError:
        plugin = self._component.id.rpartition("/")[0]
        return InternalError(
            f"{self._component.id} {what}; its author must correct that, see `portway plugin logs {plugin}`"
        )
