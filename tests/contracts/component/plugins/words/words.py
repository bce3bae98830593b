"""A tool that plays the words of the suite for tools."""

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

from portway.rpc.errors import PortwayError
from portway.runtime.sdk import Tool, ToolCall, ToolResult


class Conformance(Tool):
    async def call(self, arguments: Mapping[str, Any], call: ToolCall) -> ToolResult | str:
        word, text = arguments["word"], arguments.get("text", "")
        match word:
            case "ok":
                return str(text)
            case "error":
                return ToolResult("it cannot be done", is_error=True)
            case "raises":
                raise RuntimeError("raised on purpose")
            case "oversize":
                return "x" * (1024 * 1024 + 1)
            case "flood":
                for number in range(int(text)):
                    await call.progress(str(number))
                return "done"
            case "file":
                await call.file("words.txt", "text/plain", str(text).encode())
                return "there it is"
            case "caller":
                return f"{call.caller.workspace_id} {call.caller.run_id}"
        return await self._wait(word, call)

    async def _wait(self, word: str, call: ToolCall) -> str:
        try:
            await call.progress("waiting")
            if word == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.Event().wait()
        except (asyncio.CancelledError, PortwayError):
            if word != "stubborn":
                raise
        # The cancel may come amid the line of progress: it is ignored there, too.
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
