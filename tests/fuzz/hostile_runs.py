"""Runners that mean no good, or that cannot write a frame: what the host is sent on the stream of a run."""

import asyncio
from collections import deque
from random import Random
from typing import Any

import grpc

from portway.rpc.errors import PortwayError
from portway.v1 import run_agent_pb2, run_call_pb2
from tests.fakes.runtime_server import FakeRun
from tests.fuzz.known import Known
from tests.fuzz.messages import Messages
from tests.fuzz.wire_bytes import mutated

_HELD = 6
_BUGS = (grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0])
_RAW: Any = run_agent_pb2.RunAgentResponse


class _Answers(dict[int, Any]):
    """Takes every answer to every call, whoever asked, and looks at how it failed."""

    def __init__(self, problems: list[str], known: Known) -> None:
        super().__init__()
        self._problems = problems
        self._known = known

    def __missing__(self, call_id: int) -> "_Answers":
        return self

    def put_nowait(self, answer: run_call_pb2.RunAnswer) -> None:
        self._known.learn(answer)
        if answer.error.code in _BUGS:
            self._problems.append(f"a bug of the host, answered to a run: {answer.error}")


class HostileRuns:
    """`script` plays one run: a good one, one that is held open for its token, or one that sends what it likes."""

    def __init__(self, number: int, known: Known) -> None:
        self._random = Random(number)
        self._known = known
        self._messages = Messages(self._random, known)
        self.problems: list[str] = []
        self.tokens: deque[str] = deque(maxlen=_HELD)
        self.held = 0
        self.hostile = 0
        self.over = asyncio.Event()

    async def script(self, run: FakeRun) -> None:
        run.answers = _Answers(self.problems, self._known)
        chance = self._random.random()
        try:
            if self.held < _HELD:
                await self._hold(run)
            elif chance < 0.6:
                await run.answer("hello")
            else:
                await self._attack(run)
        except PortwayError:
            # The host has ended the run.
            return

    async def _hold(self, run: FakeRun) -> None:
        self.held += 1
        self.tokens.append(run.start.run_token)
        ends = [asyncio.ensure_future(self.over.wait()), asyncio.ensure_future(run.cancelled.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            self.held -= 1
            if run.start.run_token in self.tokens:
                self.tokens.remove(run.start.run_token)
        await run.answer("held")

    async def _attack(self, run: FakeRun) -> None:
        self.hostile += 1
        for _ in range(self._random.randint(1, 12)):
            frames = [self._frame(run) for _ in range(self._random.choice((1, 1, 2, 5)))]
            raw = _RAW(frames=frames).SerializeToString()
            if self._random.random() < 0.08:
                raw = mutated(self._random, raw)
            await run._call.write_bytes(raw)
        if self._random.random() < 0.7:
            await run.answer("that was it")

    def _frame(self, run: FakeRun) -> run_agent_pb2.RunOutputFrame:
        frame: Any = self._messages.make(run_agent_pb2.RunOutputFrame.DESCRIPTOR)
        if frame.HasField("result") and self._random.random() < 0.9:
            run.sequence += 1
            frame.result.run_id, frame.result.sequence = run.start.context.run_id, run.sequence
        if frame.HasField("call") and self._random.random() < 0.9:
            run.last_call += 1
            frame.call.call_id, frame.call.more = run.last_call, self._random.random() < 0.1
        return frame  # type: ignore[no-any-return]  # made from the class above
