"""What every runner must do, whatever it is written in: the conformance suite.

The general ones hold for any runner. The others ask for something by the first word of the message; a runner that plays
those words is named `conformance`:

`ok TEXT`, `streamed WORDS`, `empty`, `fail`, `raises`, `hang` (until it is cancelled), `stubborn` (ignores that),
`crash`, `flood N`, `history N` (pages and says what it found), `not_granted` (searches, which it may not), `oversize`,
`about` (its process id, first).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from portway.rpc.errors import NotFound, PortwayError, Reason
from portway.runtime.kit.subject import Differs, Subject, socket_of
from portway.runtime.sdk.testing.things import Things, transcript
from portway.v1 import run_agent_pb2, runtime_pb2, worker_pb2, worker_pb2_grpc

FLOOD = 100_000
_TERMINAL = ("run_completed", "run_failed")
_NO = grpc.StatusCode.UNAUTHENTICATED


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing that is checked. `check` raises `Differs`, or what the runtime answered."""

    name: str
    check: Callable[[Subject], Awaitable[None]]


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Differs(f"{what}: {found!r}, where {wanted!r} was due")


async def offers(subject: Subject) -> None:
    async with subject.host.run("ok hello") as run:
        await run.read()
    plugin = await subject.plugin()
    expect(plugin.state, runtime_pb2.PLUGIN_STATE_RUNNING, "the state of the plugin")
    if subject.runner_id not in {component.id for component in plugin.components}:
        raise Differs(f"it does not offer {subject.runner_id}")


async def ends_once(subject: Subject) -> None:
    run = await subject.host.finished("ok hello")
    if [kind for kind in run.kinds if kind in _TERMINAL] != run.kinds[-1:]:
        raise Differs(f"it must end with one terminal result: {run.kinds}")
    expect([one.sequence for one in run.results], list(range(1, len(run.results) + 1)), "the sequence of its results")
    expect({one.run_id for one in run.results}, {"run_1"}, "the run that its results name")


async def may_be_cancelled_at_once(subject: Subject) -> None:
    async with subject.host.run("hang") as run:
        await run.cancel()
        await run.until_end()
    if run.kinds[-1:] not in (["run_completed"], ["run_failed"]):
        raise Differs(f"it ended without a terminal result: {run.kinds}")


async def refuses_strangers(subject: Subject) -> None:
    async with subject.host.run("ok hello") as run:
        await run.read()
    path = socket_of((await subject.plugin()).pid)
    cookie = (path.parent / "cookie").read_text()
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        worker = worker_pb2_grpc.WorkerServiceStub(channel)
        for given in ([], [("authorization", "Bearer wrong")], [("authorization", f"Bearer {cookie[:-1]}")]):
            expect(await _code(worker.Handshake(worker_pb2.HandshakeRequest(), metadata=given)), _NO, "Handshake")
            expect(await _code(worker.Ping(worker_pb2.PingRequest(), metadata=given)), _NO, "Ping")
            expect(await _code(worker.DrainWorker(worker_pb2.DrainWorkerRequest(), metadata=given)), _NO, "DrainWorker")
            expect(await _code(worker.RunAgent(metadata=given).read()), _NO, "RunAgent, to who has no cookie")


async def speaks_its_version_only(subject: Subject) -> None:
    async with subject.host.run("ok hello") as run:
        await run.read()
    path = socket_of((await subject.plugin()).pid)
    known = [("authorization", f"Bearer {(path.parent / 'cookie').read_text()}")]
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        worker = worker_pb2_grpc.WorkerServiceStub(channel)
        later = worker_pb2.HandshakeRequest(protocol_versions=[99])
        code = await _code(worker.Handshake(later, metadata=known))
        expect(code, grpc.StatusCode.FAILED_PRECONDITION, "a handshake with version 99 only")
        await worker.Ping(worker_pb2.PingRequest(), metadata=known)
        start = run_agent_pb2.RunStart(runner_id=f"{subject.runner_id}-other")
        call = worker.RunAgent(metadata=known)
        frame = run_agent_pb2.RunInputFrame(start=start)
        await call.write(worker_pb2.WorkerServiceRunAgentRequest(frames=[frame]))
        expect(await _code(call.read()), grpc.StatusCode.NOT_FOUND, "a run of a runner that it does not have")


async def _code(answer: Awaitable[object]) -> grpc.StatusCode:
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def is_found_by_name_only(subject: Subject) -> None:
    async with subject.host.run("ok", f"{subject.runner_id}-other") as run:
        failure = await run.failure()
    if not isinstance(failure, NotFound):
        raise Differs(f"a runner that is not there: {failure}")


async def answers(subject: Subject) -> None:
    run = await subject.host.finished("ok hello")
    expect(run.kinds, ["message_completed", "run_completed"], "what it says")
    expect(run.message, "hello", "its answer")


async def streams(subject: Subject) -> None:
    run = await subject.host.finished("streamed a b c")
    expect(run.kinds, ["message_delta"] * 3 + ["message_completed", "run_completed"], "what it says")
    expect([one.sequence for one in run.results], [1, 2, 3, 4, 5], "the sequence of its results")
    expect(run.message, "abc", "its answer")


async def may_say_nothing(subject: Subject) -> None:
    expect((await subject.host.finished("empty")).kinds, ["run_completed"], "what it says")


async def fails_by_a_code(subject: Subject) -> None:
    expect((await subject.host.finished("fail")).error.code, "harness.cli_missing", "its code")
    await _is_healthy(subject)


async def survives_its_own_errors(subject: Subject) -> None:
    async with subject.host.run("raises") as run:
        try:
            await run.until_end()
        except PortwayError as error:
            expect(error.reason, Reason.INTERNAL, "how it failed")
        else:
            expect(run.error.code, "runner.error", "its code")
    await _is_healthy(subject)


async def ends_when_cancelled(subject: Subject) -> None:
    async with subject.host.run("hang") as run:
        await run.until("message_delta")
        await run.cancel()
        await run.until_end()
    expect(run.error.code, "cancelled", "its code")
    await _is_healthy(subject)


async def can_be_replaced(subject: Subject) -> None:
    """One that ignores a cancel is recycled by the host, with all that it holds."""
    async with subject.host.run("stubborn") as run:
        await run.until("message_delta")
        await run.cancel()
    before = await subject.host.finished("about")
    await subject.recycle()
    after = await subject.host.finished("about")
    if before.message.split()[0] == after.message.split()[0]:
        raise Differs("the process is the same as before")


async def comes_back_after_a_crash(subject: Subject) -> None:
    async with subject.host.run("crash") as run:
        expect((await run.failure()).reason, Reason.RUNNER_CRASHED, "what a crash is told as")
    await _is_healthy(subject)


async def floods(subject: Subject) -> None:
    run = await subject.host.finished(f"flood {FLOOD}")
    texts = [one.message_delta.text for one in run.results[:-1]]
    expect(len(texts), FLOOD, "how many deltas came")
    if texts != [f"{number} " for number in range(FLOOD)]:
        raise Differs("the deltas are not in order")
    expect(run.kinds[-1], "run_completed", "its end")


async def keeps_to_its_credit(subject: Subject) -> None:
    """The host allows a little at a time: nothing is lost, and it does not stop for good."""
    async with subject.host.run("flood 20000", credit=64 * 1024) as run:
        taken = 0
        while (size := await run.read_some()) is not None:
            taken += size
            if taken >= 32 * 1024:
                await run.send(run_agent_pb2.RunInputFrame(credit=run_agent_pb2.RunCredit(bytes=taken)))
                taken = 0
    expect(run.kinds[-1], "run_completed", "its end")
    expect(len(run.results), 20_001, "how many results came")


async def asks_the_host(subject: Subject) -> None:
    things = Things(history=transcript("one", "two", "three"))
    expect((await subject.host.finished("history 2", things=things)).message, "two|three", "what it found")


async def bears_a_refusal(subject: Subject) -> None:
    run = await subject.host.finished("not_granted")
    expect(run.error.code, "runner.error", "its code")
    await _is_healthy(subject)


async def refuses_large_results(subject: Subject) -> None:
    run = await subject.host.finished("oversize")
    expect(run.error.code, "runner.protocol", "its code")
    await _is_healthy(subject)


async def does_many_at_once(subject: Subject) -> None:
    async with subject.host.run("hang") as first:
        await first.until("message_delta")
        for number in range(20):
            expect((await subject.host.finished(f"ok {number}")).message, str(number), "its answer")
        await first.cancel()
        await first.until_end()


async def _is_healthy(subject: Subject) -> None:
    expect((await subject.host.finished("ok healthy")).message, "healthy", "the next run's answer")


GENERAL: Sequence[Behaviour] = (
    Behaviour("offers what its manifest names", offers),
    Behaviour("ends a run with one terminal result, the results numbered without gaps", ends_once),
    Behaviour("ends when it is cancelled at once", may_be_cancelled_at_once),
    Behaviour("refuses everybody without its cookie", refuses_strangers),
    Behaviour("refuses versions and runners that it does not know", speaks_its_version_only),
    Behaviour("is found by its whole name only", is_found_by_name_only),
)
WORDS: Sequence[Behaviour] = (
    Behaviour("ok: answers", answers),
    Behaviour("streamed: answers in pieces", streams),
    Behaviour("empty: may say nothing", may_say_nothing),
    Behaviour("fail: fails with a code of its choice", fails_by_a_code),
    Behaviour("raises: an error of its own ends only its run", survives_its_own_errors),
    Behaviour("hang: ends when it is cancelled", ends_when_cancelled),
    Behaviour("stubborn: can be replaced when it ignores a cancel", can_be_replaced),
    Behaviour("crash: comes back", comes_back_after_a_crash),
    Behaviour("flood: a hundred thousand deltas arrive in order", floods),
    Behaviour("flood: goes on as the host gives credit", keeps_to_its_credit),
    Behaviour("history: asks the host on the run's own stream", asks_the_host),
    Behaviour("not_granted: bears a refusal", bears_a_refusal),
    Behaviour("oversize: says nothing larger than 1 MiB", refuses_large_results),
    Behaviour("has many runs under way at once", does_many_at_once),
)
"""What runners named `conformance` do besides."""
