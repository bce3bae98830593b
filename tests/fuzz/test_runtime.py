"""Every method of the runtime, on its plugins' real processes."""

from pathlib import Path
from random import Random

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from portway.rpc.channel import open_channel
from portway.rpc.describe import contract_services
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.v1 import run_agent_pb2
from tests.fuzz.attack import Attack, Target, seconds, seed
from tests.fuzz.machine import descriptors
from tests.rpc.logs import Logs
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.runtime.host_end import BEHAVE, HostEnd
from tests.waiting import until

USUAL = 3.0


def spared(method: MethodDescriptor, request: Message) -> bool:
    # A plugin that starts anew all the time is a test of its own.
    return method.name == "RecyclePlugin" and "behave" in str(request)


def a_start(text: str) -> run_agent_pb2.RunAgentRequest:
    start = run_agent_pb2.RunStart(runner_id=BEHAVE)
    start.context.run_id, start.context.attempt, start.context.input.text = "run_1", 1, text
    return run_agent_pb2.RunAgentRequest(frames=[run_agent_pb2.RunInputFrame(start=start)])


async def test_nothing_that_is_sent_to_the_runtime_breaks_it(tmp_path: Path) -> None:
    number = seed()
    print(f"PORTWAY_FUZZ_SEED={number}")
    logs = Logs()
    tokens = {role: mint_token(role.name.lower()).text for role in (Role.ADMIN, Role.RUNTIME, Role.VIEWER)}
    known = FixedTokens((text, Caller(role, "*", role.name)) for role, text in tokens.items())

    def token_of(_method: MethodDescriptor, random: Random) -> str:
        return random.choice(["", *tokens.values()]) if random.random() < 0.1 else tokens[Role.ADMIN]

    config = RuntimeConfig(data=tmp_path / "data", plugins=(PLUGIN_FOLDERS,), max_runs=64, grace_seconds=1.0)
    async with (
        run_runtime(config, known) as server,
        open_channel(server.address, token=tokens[Role.RUNTIME]) as channel,
    ):
        services = [service for service in contract_services() if service.name == "RuntimeService"]
        target = Target(server.address, services, token_of, secrets=list(tokens.values()), spared=spared)
        for text in ("ok hello", "streamed a b c", "hang", "fail", "history 3"):
            target.known.learn(a_start(text))
        host = HostEnd(channel)
        await host.finished("ok hello")
        before = descriptors()
        attack = Attack(target, number)
        await attack.go_on(seconds(USUAL), least=10)
        problems = "\n".join(attack.problems[:5])
        assert not problems, f"PORTWAY_FUZZ_SEED={number}\n{problems}{logs.text()[-4000:]}"
        await until(lambda: descriptors() <= before + 16)
        run = await host.finished("ok are you there")
        assert run.kinds[-1] == "run_completed"
        print(dict(attack.codes), len(attack.well))
    assert "bug in a handler" not in logs.text()
