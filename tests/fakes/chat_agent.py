"""The agent of the scripted host: says words, calls a tool, waits where a test tells it to, fails where told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from portway.v1 import content_pb2, delivery_pb2, run_pb2, run_result_pb2
from tests.fakes.chat_store import ChatStore, StoredRun

KEY = "m1"


@dataclass(slots=True)
class Script:
    """How runs go. `gates` hold a run at a point (`begin`, `middle`, `end`, `deliver`) until the test opens it."""

    pause: float = 0.0
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    reached: dict[str, asyncio.Event] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)

    def hold(self, point: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Returns what is set when a run is there, and what lets it go on."""
        self.gates[point], self.reached[point] = asyncio.Event(), asyncio.Event()
        return self.reached[point], self.gates[point]

    async def pass_by(self, point: str) -> None:
        if point in self.gates:
            self.reached[point].set()
            await self.gates[point].wait()


class Agent:
    """Runs one run to its end. Everything that it commits is on the store's disk at once."""

    def __init__(self, store: ChatStore, script: Script, deliver: Callable[[delivery_pb2.Delivery], None]) -> None:
        self._store = store
        self._script = script
        self._deliver = deliver

    async def execute(self, run: StoredRun) -> None:
        await self._script.pass_by("begin")
        run.run.attempt += 1
        if run.run.attempt > 1:
            run.commit(reset=run_pb2.RunReset(attempt=run.run.attempt, reason="host.restarted"))
        run.run.state = run_pb2.RUN_STATE_RUNNING
        run.commit(state_changed=run_pb2.RunStateChanged(state=run_pb2.RUN_STATE_RUNNING))
        work = asyncio.ensure_future(self._answer(run))
        stop = asyncio.ensure_future(run.cancelled.wait())
        try:
            await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                self._fail(run, "cancelled", "stopped", "Stopped.")
            run.over.set()
        finally:
            for task in (work, stop):
                task.cancel()

    async def _answer(self, run: StoredRun) -> None:
        if run.text.startswith("fail"):
            self._fail(run, "runner.error", "the runner failed", "Something went wrong. Try again.")
            return
        answer = f"You said: {run.text}"
        if run.text.startswith("run: "):
            answer = f"The command printed:\n\n```\n{await self._run_command(run)}\n```"
        if run.text.startswith("say: "):
            answer = run.text[5:]
        await self._speak(run, answer)

    async def _run_command(self, run: StoredRun) -> str:
        command = run.text[5:]
        call = f"call-{len(run.ledger)}"
        started = run_result_pb2.ToolCallStarted(call_id=call, tool="exec")
        started.arguments.update({"command": command})
        run.commit(tool_call_started=started)
        await self._script.pass_by("tool")
        self._script.executed.append(command)
        output = command.removeprefix("echo ")
        run.commit(
            tool_call_completed=run_result_pb2.ToolCallCompleted(
                call_id=call, tool="exec", result_text=output, duration=Duration(nanos=12_000_000)
            )
        )
        return output

    async def _speak(self, run: StoredRun, answer: str) -> None:
        """Words go out as provisional chunks; every fourth time what was said is committed, as one chunk."""
        words = [f"{word} " for word in answer.split(" ")]
        words[-1] = words[-1].removesuffix(" ")
        said = committed = 0
        for number, word in enumerate(words):
            delta = run_result_pb2.MessageDelta(message_key=KEY, text=word)
            run.provisional(message_delta=delta, text_offset=said)
            said += len(word)
            if number % 4 == 3:
                whole = run_result_pb2.MessageDelta(message_key=KEY, text=answer[committed:said])
                run.commit(message_delta=whole, text_offset=committed)
                committed = said
            if number == len(words) // 2:
                await self._script.pass_by("middle")
            await self._wait()
        await self._script.pass_by("end")
        self._finish(run, answer)
        await self._script.pass_by("deliver")

    def _wait(self) -> Awaitable[None]:
        return asyncio.sleep(self._script.pause)

    def _finish(self, run: StoredRun, answer: str) -> None:
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text=answer))
        item = self._store.add_item(
            run.run.conversation_id, content_pb2.MESSAGE_ROLE_ASSISTANT, [part], run_id=run.run.run_id
        )
        delivery = self._store.add_delivery(run, item)
        message = content_pb2.Message(message_id=item.item_id, role=content_pb2.MESSAGE_ROLE_ASSISTANT, parts=[part])
        run.run.state = run_pb2.RUN_STATE_COMPLETED
        run.commit(message_completed=run_result_pb2.MessageCompleted(message_key=KEY, message=message))
        run.commit(run_completed=run_result_pb2.RunCompleted(finish_reason=run_result_pb2.FINISH_REASON_STOP))
        self._deliver(delivery)

    def _fail(self, run: StoredRun, code: str, message: str, told: str) -> None:
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text=told))
        item = self._store.add_item(
            run.run.conversation_id,
            content_pb2.MESSAGE_ROLE_ASSISTANT,
            [part],
            kind="notice",
            run_id=run.run.run_id,
        )
        delivery = self._store.add_delivery(run, item)
        cancelled = code == "cancelled"
        run.run.state = run_pb2.RUN_STATE_CANCELLED if cancelled else run_pb2.RUN_STATE_FAILED
        run.commit(notice=run_pb2.RunNotice(code=code, text=told))
        run.commit(run_failed=run_result_pb2.RunFailed(error=run_result_pb2.RunError(code=code, message=message)))
        self._deliver(delivery)
