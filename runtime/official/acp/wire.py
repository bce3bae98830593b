"""Messages of the protocol over the program's standard streams."""

import asyncio
import json
from typing import Any

from portway.runtime.harness.failures import BAD_OUTPUT, excerpt
from portway.runtime.harness.program import Listener, Program
from portway.runtime.official.acp.talk import Talk
from portway.runtime.sdk import RunFailure

# Requests of an agent that wait for their answers before it is read on.
MAX_OPEN = 32


class ProgramTransport:
    """A message transport of `acp`. It reads only while there is room for what follows; `failure` says why it ended."""

    def __init__(self, program: Program, listener: Listener, talk: Talk) -> None:
        self.failure: RunFailure | None = None
        self._program = program
        self._lines = listener.lines()
        self._talk = talk
        # What the agent asks and has no answer yet.
        self._open = 0
        # The id of the prompt, and whether it was answered.
        self._prompt: object = None
        self._over = False
        self._answered = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self._open -= 1
            self._answered.set()
        elif message["method"] == "session/prompt":
            self._prompt = message["id"]
        await self._program.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """None at the end, and after a failure."""
        await self._talk.room()
        while self._open >= MAX_OPEN:
            self._answered.clear()
            await self._answered.wait()
        try:
            async for line in self._lines:
                message = _message(line)
                if self._over and message.get("method") == "session/update":
                    # The turn has ended: what is told of it now is too late.
                    continue
                asks = "method" in message
                self._over = self._over or (self._prompt is not None and not asks and message.get("id") == self._prompt)
                self._open += asks and "id" in message
                return message
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
