"""Every method of the host, with the runs of a hostile runtime beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from portway.rpc.describe import contract_services
from portway.rpc.ids import new_id
from portway.rpc.tokens import parse_token
from portway.server.agents.types import ApprovalPolicy
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.v1 import run_pb2, status_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRuntime, a_manifest, serve_fake_runtime
from tests.fuzz.attack import Attack, Target, seconds, seed
from tests.fuzz.host_samples import samples
from tests.fuzz.hostile_runs import HostileRuns
from tests.fuzz.known import Known
from tests.fuzz.machine import descriptors, resident
from tests.rpc.logs import Logs
from tests.server.callers import make_token
from tests.server.conftest import FIELDS
from tests.server.hosting import Hosted, hosted
from tests.waiting import until

USUAL = 8.0
MOST_GROWTH = 200 << 20
KEY = "sk-provider-key-of-the-fuzz-test"
# What the test stands on.
KEPT = {
    "DeleteWorkspace": "default",
    "UpdateWorkspace": "default",
    "DeleteAgent": "assistant",
    "UpdateAgent": "assistant",
}
ROLES = ("operator", "viewer", "member", "adapter")


def spared(method: MethodDescriptor, request: Message) -> bool:
    kept = KEPT.get(method.name)
    return kept is not None and (f'"{kept}"' in str(request) or not request.ByteSize())


@asynccontextmanager
async def attacked(folder: Path, number: int) -> AsyncIterator[tuple[Hosted, HostileRuns, Target]]:
    known = Known()
    runs = HostileRuns(number, known)
    provider = ProviderConfig(
        ProviderKind.OPENAI, (ModelConfig("remote"),), base_url="http://127.0.0.1:9/v1", api_key=KEY
    )
    models = ModelsConfig(default="demo", providers={"file": provider})
    runtime = FakeRuntime(script=runs.script, manifest=a_manifest(config_schema=FIELDS, capabilities=["steering"]))
    async with serve_fake_runtime(runtime), hosted(folder, runtime, models=models) as host:
        # Calls that wait for people end soon: nobody is there.
        await host.set_agent(approval_policy=ApprovalPolicy(time_limit_seconds=0.1))
        known.spare(parse_token(host.admin_token).token_id)
        for sample in samples():
            known.learn(sample)
        tokens = {role: (await make_token(host, role)).secret for role in ROLES}
        foreign = await ask(
            host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace_pb2.Workspace(name="other"))
        )
        tokens["stranger"] = (await make_token(host, "operator", foreign.workspace.workspace_id)).secret

        def token_of(method: MethodDescriptor, random: Random) -> str:
            chance = random.random()
            if method.containing_service.name == "RunnerService" and runs.tokens and chance < 0.9:
                return random.choice(runs.tokens)
            if chance < 0.02:
                return random.choice(("", "pw_admin_x", host.admin_token[:-1] + "!"))
            return random.choice(list(tokens.values())) if chance < 0.2 else host.admin_token

        for text in tokens.values():
            known.spare(parse_token(text).token_id)
        target = Target(
            host.address,
            contract_services(),
            token_of,
            secrets=[host.admin_token, KEY, *tokens.values()],
            spared=spared,
            known=known,
        )
        try:
            yield host, runs, target
        finally:
            runs.over.set()


def bugs(logs: Logs) -> str:
    """What the server wrote down of its own bugs."""
    return "\n".join(str(line.get("exception", line))[-3000:] for line in logs.lines() if line["level"] == "error")


async def put_right(host: Hosted) -> None:
    """What hostile administrators may do, and what would leave nothing to try."""
    page = await ask(host.channel, workspace_pb2.ListKillSwitchesRequest(page_size=200))
    for switch in page.kill_switches:
        switch.on = False
        await ask(host.channel, workspace_pb2.SetKillSwitchRequest(kill_switch=switch))
    for _ in range(3):
        await host.submit(agent_id="assistant", chat=new_id("chat"))


async def test_nothing_that_is_sent_to_the_host_breaks_it(tmp_path: Path) -> None:
    number = seed()
    print(f"PORTWAY_FUZZ_SEED={number}")
    logs = Logs()
    async with attacked(tmp_path, number) as (host, runs, target):
        attack = Attack(target, number)
        await put_right(host)
        await until(lambda: bool(runs.tokens))
        await attack.round()
        await put_right(host)
        before, memory = descriptors(), resident()
        await attack.go_on(seconds(USUAL), lambda: put_right(host), least=50)
        await until(lambda: descriptors() <= before + 16)
        problems = attack.problems + runs.problems
        assert not problems, f"PORTWAY_FUZZ_SEED={number}\n" + "\n".join(problems[:5]) + bugs(logs)
        assert resident() < memory + MOST_GROWTH
        runs.over.set()
        status = await ask(host.channel, status_pb2.GetStatusRequest())
        assert status.version
        run = await host.asked("are you there?", agent_id="assistant", chat="after the attack")
        assert run.state in (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED)
        print(dict(attack.codes), len(attack.well), runs.hostile)
    assert "bug in a handler" not in logs.text()
