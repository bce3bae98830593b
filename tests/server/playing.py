"""Playing a runner by hand: what the script finds wrong fails the test, not only the run."""

from portway.v1 import run_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, Script
from tests.server.hosting import Hosted


async def played(host: Hosted, runtime: FakeRuntime, script: Script, text: str = "hi", **submit: str) -> run_pb2.Run:
    """The run of one message whose runner is the script; it need not end the run itself."""
    problems: list[BaseException] = []

    async def guarded(run: FakeRun) -> None:
        try:
            await script(run)
        except BaseException as error:
            problems.append(error)
            raise
        await run.answer("done")

    runtime.script = guarded
    run = await host.asked(text, **submit)
    if problems:
        raise problems[0]
    return run
