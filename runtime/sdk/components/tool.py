"""Tools: what models may call."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable
from datetime import datetime

from portway.rpc.errors import Reason, WrongState
from portway.runtime.sdk.components.call import Caller, ComponentCall, PluginStorage, Report
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.pulled import ToolResult

# A result larger than this is refused; files and partial output have limits of their own.
MAX_RESULT_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024

WriteFile = Callable[[str, str, bytes, bool], Awaitable[None]]


class ToolCall(ComponentCall):
    """A call of a tool. A repeated call has the same `effect_id`; `run_id` is empty outside runs."""

    def __init__(
        self,
        effect_id: str,
        run_id: str,
        write: Callable[[str], Awaitable[None]],
        report: Report | None = None,
        *,
        write_file: WriteFile | None = None,
        caller: Caller | None = None,
        deadline: datetime | None = None,
        storage: PluginStorage | None = None,
    ) -> None:
        super().__init__(caller or Caller(run_id=run_id), deadline, report, storage)
        self.effect_id = effect_id
        self.run_id = run_id
        self._write = write
        self._write_file = write_file

    async def output(self, text: str) -> None:
        """Shows a piece of output while the tool runs."""
        for start in range(0, len(text), PIECE_BYTES):
            await self._write(text[start : start + PIECE_BYTES])

    async def file(self, name: str, mime_type: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Gives a file of at most 16 MiB, which becomes an artifact of the run. One after the other."""
        if self._write_file is None:
            return
        waiting = b""
        async for piece in _pieces(content):
            if waiting:
                await self._write_file(name, mime_type, waiting, False)
                name = mime_type = ""
            waiting = piece
        await self._write_file(name, mime_type, waiting, True)


class Tool(ABC):
    """A tool. A new instance is made for each call."""

    @abstractmethod
    async def call(self, arguments: Json, call: ToolCall) -> ToolResult | str:
        """The result; an exception becomes a result with `is_error`. It is cancelled where nobody waits any more."""

    async def reconcile(self, arguments: Json, call: ToolCall) -> ToolResult | str:
        """For tools whose manifest says `idempotency: reconcilable`: what became of the earlier call with this
        `effect_id`, without acting. Raises `WrongState` (`EFFECT_UNKNOWN`) where it cannot be told."""
        raise WrongState("this tool cannot tell what became of an earlier call", reason=Reason.EFFECT_UNKNOWN)


async def _pieces(content: bytes | AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), PIECE_BYTES):
            yield content[start : start + PIECE_BYTES]
        return
    async for larger in content:
        for start in range(0, len(larger), PIECE_BYTES):
            yield larger[start : start + PIECE_BYTES]
