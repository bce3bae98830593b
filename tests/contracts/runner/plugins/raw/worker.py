"""A worker that knows nothing but the contract: generated messages and a gRPC server, as in any other language."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import grpc

from portway.v1 import run_agent_pb2, run_result_pb2, worker_pb2

COOKIE = "Bearer " + Path(os.environ["PORTWAY_COOKIE_FILE"]).read_text()
RUNNER_ID = f"plugin:{os.environ['PORTWAY_PLUGIN']}/default"

Result = run_result_pb2.RunResult


class Run:
    """One run: counts its own results."""

    def __init__(self, start: run_agent_pb2.RunStart, context: Any) -> None:
        self.words = start.context.input.text.partition(" ")
        self.start = start
        self.context = context
        self.sequence = 0
        self.cancelled = asyncio.Event()
        self.answers: asyncio.Queue[Any] = asyncio.Queue(maxsize=16)

    async def send(self, *frames: run_agent_pb2.RunOutputFrame) -> None:
        await self.context.write(worker_pb2.WorkerServiceRunAgentResponse(frames=frames))

    def result(self, **kind: Any) -> run_agent_pb2.RunOutputFrame:
        self.sequence += 1
        result = Result(run_id=self.start.context.run_id, sequence=self.sequence, **kind)
        return run_agent_pb2.RunOutputFrame(result=result)

    def delta(self, text: str) -> run_agent_pb2.RunOutputFrame:
        return self.result(message_delta=run_result_pb2.MessageDelta(text=text))

    def message(self, text: str) -> run_agent_pb2.RunOutputFrame:
        completed = run_result_pb2.MessageCompleted()
        completed.message.parts.add().text.text = text
        return self.result(message_completed=completed)

    def answered(self) -> run_agent_pb2.RunOutputFrame:
        frame = self.done()
        frame.result.run_completed.message.message.parts.add().text.text = "done"
        return frame

    def done(self) -> run_agent_pb2.RunOutputFrame:
        return self.result(run_completed=run_result_pb2.RunCompleted(finish_reason=run_result_pb2.FINISH_REASON_STOP))

    def failed(self, code: str, message: str) -> run_agent_pb2.RunOutputFrame:
        return self.result(
            run_failed=run_result_pb2.RunFailed(error=run_result_pb2.RunError(code=code, message=message))
        )


async def behave(run: Run) -> None:
    """What the first word of the message asks for; the suite knows the same words."""
    what, _, rest = run.words
    if what == "ok":
        await run.send(run.message(rest), run.done())
    elif what == "streamed":
        deltas = [run.delta(word) for word in rest.split()]
        await run.send(*deltas, run.message("".join(rest.split())), run.done())
    elif what == "empty":
        await run.send(run.done())
    elif what == "fail":
        await run.send(run.delta("about to fail"), run.failed("harness.cli_missing", "the program is not installed"))
    elif what == "flood":
        for first in range(0, int(rest), 64):
            numbers = range(first, min(first + 64, int(rest)))
            await run.send(*(run.delta(f"{number} ") for number in numbers))
        await run.send(run.done())
    elif what == "history":
        await ask_history(run, int(rest))
    elif what in LESS_USUAL:
        await LESS_USUAL[what](run)
    else:
        await wait(run, what)


async def wait(run: Run, what: str) -> None:
    await run.send(run.delta("waiting"))
    if what == "hang":
        await run.cancelled.wait()
        await run.send(run.failed("cancelled", "the run was cancelled"))
    elif what == "stubborn":
        await asyncio.Event().wait()
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "about":
        await run.send(run.message(str(os.getpid())), run.done())


async def ask_history(run: Run, limit: int) -> None:
    frame = run_agent_pb2.RunOutputFrame()
    frame.call.call_id = 1
    frame.call.page_history.limit = limit
    await run.send(frame)
    answer = await run.answers.get()
    texts = [item.content for item in answer.page_history.items]
    await run.send(run.message("|".join(texts)), run.done())


async def oversize(run: Run) -> None:
    await run.send(run.failed("runner.protocol", "a result of more than 1 MiB is not sent"))


async def raises(run: Run) -> None:
    await run.send(run.delta("about to raise"))
    raise RuntimeError("raised on purpose")


async def not_granted(run: Run) -> None:
    frame = run_agent_pb2.RunOutputFrame()
    frame.call.call_id = 1
    frame.call.search_history.query = "anything"
    await run.send(frame)
    error = (await run.answers.get()).error
    await run.send(run.failed("runner.error", f"{error.message} ({error.code})"))


class Bytes:
    """Goes to the wire as it is."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def SerializeToString(self) -> bytes:
        return self.raw


async def malformed(run: Run) -> None:
    """The tag of `frames` with a length that never ends."""
    await run.context.write(Bytes(b"\x0a\xff\xff\xff"))


async def no_terminal(run: Run) -> None:
    await run.send(run.delta("and that is all"))


async def after_terminal(run: Run) -> None:
    await run.send(run.answered(), run.delta("more"))


async def wrong_sequence(run: Run) -> None:
    run.sequence = 6
    await run.send(run.answered())


async def wrong_run(run: Run) -> None:
    run.start.context.run_id = "run_of_another"
    await run.send(run.result(progress={"text": "at work"}), run.answered())


async def unknown_kind(run: Run) -> None:
    """A kind with the number 99, as a later version of the contract may have."""
    unknown = run_agent_pb2.RunOutputFrame(result=Result.FromString(b"\x10\x01\x9a\x06\x03new"))
    run.sequence = 1
    await run.send(unknown, run.answered())


async def raw_oversize(run: Run) -> None:
    await run.send(run.delta("x" * (1024 * 1024 + 1)))


async def call_after_end(run: Run) -> None:
    frame = run_agent_pb2.RunOutputFrame()
    frame.call.call_id = 1
    frame.call.page_history.limit = 1
    await run.send(run.answered(), frame)


LESS_USUAL = {
    what.__name__: what
    for what in (
        *(oversize, raises, not_granted),
        *(malformed, no_terminal, after_terminal, wrong_sequence),
        *(wrong_run, unknown_kind, raw_oversize, call_after_end),
    )
}


async def run_agent(_requests: object, context: Any) -> None:
    await check(context)
    first = await context.read()
    start = first.frames[0].start
    if start.runner_id != RUNNER_ID:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no runner {start.runner_id}")
    run = Run(start, context)
    behaving = asyncio.ensure_future(behave(run))
    reading = asyncio.ensure_future(read(run))
    try:
        await behaving
    finally:
        behaving.cancel()
        reading.cancel()


async def read(run: Run) -> None:
    while (request := await run.context.read()) is not grpc.aio.EOF:
        for frame in request.frames:
            if frame.HasField("cancel"):
                run.cancelled.set()
            elif frame.HasField("answer") and (frame.answer.WhichOneof("kind") or frame.answer.HasField("error")):
                await run.answers.put(frame.answer)


async def check(context: Any) -> None:
    if dict(context.invocation_metadata()).get("authorization") != COOKIE:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cookie is wrong")


async def handshake(request: Any, context: Any) -> worker_pb2.HandshakeResponse:
    await check(context)
    if 1 not in request.protocol_versions:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this program speaks version 1")
    components = [worker_pb2.WorkerComponent(kind="AgentRunner", name="default")]
    return worker_pb2.HandshakeResponse(protocol_version=1, components=components, sdk="none")


async def ping(_request: Any, context: Any) -> worker_pb2.PingResponse:
    await check(context)
    return worker_pb2.PingResponse()


async def drain(_request: Any, context: Any) -> worker_pb2.DrainWorkerResponse:
    await check(context)
    return worker_pb2.DrainWorkerResponse()


async def main() -> None:
    def unary(function: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=request.FromString, response_serializer=lambda one: one.SerializeToString()
        )

    handlers = {
        "Handshake": unary(handshake, worker_pb2.HandshakeRequest),
        "Ping": unary(ping, worker_pb2.PingRequest),
        "DrainWorker": unary(drain, worker_pb2.DrainWorkerRequest),
        "RunAgent": grpc.stream_stream_rpc_method_handler(
            run_agent,
            request_deserializer=worker_pb2.WorkerServiceRunAgentRequest.FromString,
            response_serializer=lambda one: one.SerializeToString(),
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("portway.v1.WorkerService", handlers),))
    server.add_insecure_port(f"unix:{os.environ['PORTWAY_SOCKET']}")
    await server.start()
    print("listening", file=sys.stderr)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
