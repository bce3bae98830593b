"""Messages of the protocol over the program's standard streams."""

import json
from typing import Any

from portway.runtime.harness.failures import BAD_OUTPUT, excerpt
from portway.runtime.harness.program import Listener, Program
from portway.runtime.official.acp.talk import Talk
from portway.runtime.sdk import RunFailure


class ProgramTransport:
    """A message transport of `acp`. It reads only while there is room for what follows; `failure` says why it ended."""

    def __init__(self, program: Program, listener: Listener, talk: Talk) -> None:
        self.failure: RunFailure | None = None
        self._program = program
        self._lines = listener.lines()
        self._talk = talk

    async def send(self, message: dict[str, Any]) -> None:
        await self._program.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """None at the end, and after a failure."""
        await self._talk.room()
        try:
            line = await anext(self._lines, None)
            return None if line is None else _message(line)
        except RunFailure as failure:
            self.failure = failure
            return None

    async def close(self) -> None:
        """The program is ended by whoever started it."""


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        shown = excerpt(line[:200].decode(errors="replace"))
        raise RunFailure(BAD_OUTPUT, f"the agent wrote a line that is no message of the protocol: {shown}")
    return message
