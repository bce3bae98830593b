"""A listener that does what events say, and a tool that keeps things beside it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portway.rpc.errors import PortwayError
from portway.runtime.sdk import EventListener, ListenerCall, ObservedEvent, StateScope, Tool, ToolCall, ToolResult
from portway.v1 import run_pull_pb2

HERE = Path(os.environ.get("WATCHER_FOLDER", Path(__file__).parent))


def note(name: str, text: str) -> None:
    with (HERE / name).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


class Watch(EventListener):
    async def observe(self, events: Sequence[ObservedEvent], call: ListenerCall) -> None:
        for event in events:
            await self._one(event, call)
        note("batches", f"{len(events)} {call.missed_count} {call.caller.workspace_id}")

    async def _one(self, event: ObservedEvent, call: ListenerCall) -> None:
        text = event.input.text
        first = not (HERE / "met").exists() or text not in (HERE / "met").read_text().splitlines()
        note("met", text)
        if text == "crash once" and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "hang once" and first:
            await asyncio.Event().wait()
        if text == "poison":
            raise ValueError("cannot bear it")
        if text == "overreach":
            note("refused", await self._refused(call))
        await call.storage.set(f"seen/{event.sequence}", text.encode())
        part = event.input.contents[0]
        source = getattr(part, "provenance", None)
        note("seen", f"{event.sequence} {event.event.type} {text} {event.outcome} {bool(source)}")

    async def _refused(self, call: ListenerCall) -> str:
        """What comes of asking for what a listener may not have."""
        calls: Any = call.storage._storage._calls
        found = []
        asked: Mapping[str, Any] = {
            "page_history": run_pull_pb2.PageHistoryRequest(),
            "list_storage": run_pull_pb2.ListStorageRequest(area=run_pull_pb2.STORAGE_AREA_WORKSPACE),
            "set_state": run_pull_pb2.SetStateRequest(scope=StateScope.ACTOR.value, key="a", value_json="1"),
            "call_tool": run_pull_pb2.RunnerServiceCallToolRequest(name="exec"),
        }
        for kind, request in asked.items():
            try:
                await calls.ask(kind, request)
                found.append(f"{kind} allowed")
            except PortwayError as error:
                found.append(f"{kind} {type(error).__name__}")
        return ", ".join(found)


class Notes(Tool):
    async def call(self, arguments: Mapping[str, Any], call: ToolCall) -> ToolResult:
        before = await call.storage.get("note") or b""
        await call.storage.set("note", arguments["text"].encode())
        await call.progress("kept", 1.0)
        await call.file("note.txt", "text/plain", self._pieces(arguments["text"]))
        about = {"caller": call.caller.runner_id, "run": call.caller.run_id, "workspace": call.caller.workspace_id}
        return ToolResult(f"before: {before.decode()}", {**about, "left": (call.time_left or 0) > 0})

    async def _pieces(self, text: str) -> AsyncIterator[bytes]:
        yield text.encode()
        yield b"!" * 300_000
