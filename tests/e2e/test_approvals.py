"""An agent that must ask before it runs a command, in a whole installation, decided by the command line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from portway.clients.host import Accepted, Portway
from portway.rpc.errors import PortwayError
from portway.v1 import run_agent_pb2, run_pb2
from tests.deciding import approvals
from tests.e2e.stack import Stack, started
from tests.ownership import assert_nothing_owned
from tests.sandbox import needs_sandbox
from tests.waiting import until_told

pytestmark = needs_sandbox

_CONFIG = """
agents:
- agent_id: careful
  name: Careful
  runner_id: plugin:portway/local-agent/default
  on_interrupted: INTERRUPTED_POLICY_RETRY
  box_policy: {{tools: ["*"], approved_commands: ["^touch "]}}
  approval_policy: {{time_limit: {limit}}}
bindings:
- {{binding_id: all, scope: BINDING_SCOPE_GLOBAL, agent_id: careful}}
"""
ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)
SECONDS = 120


@asynccontextmanager
async def careful(folder: Path, limit: str = "600s") -> AsyncIterator[Stack]:
    async with started(folder, config=_CONFIG.format(limit=limit)) as stack:
        yield stack


async def asked(stack: Stack, name: str) -> tuple[str, str]:
    """A command that must be allowed; answers the run and the approval that it waits for."""
    async with stack.client() as host:
        accepted: Accepted = await host.send(f"run: touch {name}; ls", conversation_id=name)
        found: list[run_pb2.Approval] = []

        async def waits() -> bool:
            found[:] = await approvals(host.runs.stub, run_id=accepted.run_id, pending_only=True)
            return bool(found)

        await until_told(waits)
        run = await host.runs.get(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_WAITING
        return accepted.run_id, found[0].approval_id


async def ended(stack: Stack, run_id: str) -> run_pb2.Run:
    """Whatever happens to the host meanwhile."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with stack.client() as host:
                    run = await host.runs.get(run_id)
                if run.state in ENDED:
                    return run
            except (PortwayError, OSError, ValueError):
                pass
            await asyncio.sleep(0.05)


async def last_words(host: Portway, conversation_id: str) -> str:
    return (await host.history(conversation_id)).items[-1].content


async def what_exists(stack: Stack, conversation_id: str) -> str:
    """What `ls` says in the sandbox of the conversation: nobody has to allow that."""
    async with stack.client() as host:
        accepted = await host.send("run: ls", conversation_id=conversation_id)
        await ended(stack, accepted.run_id)
        return await last_words(host, conversation_id)


async def test_allowed_refused_and_killed_while_it_waits(tmp_path: Path) -> None:
    async with careful(tmp_path) as stack:
        run_id, approval_id = await asked(stack, "allowed")
        listed = await stack.portway("approvals", "list")
        assert approval_id in listed.out and "touch allowed" in listed.out
        decided = await stack.portway("approvals", "approve", approval_id, "--note", "go ahead")
        assert decided.code == 0, decided.err
        assert (await ended(stack, run_id)).state == run_pb2.RUN_STATE_COMPLETED
        assert "allowed" in await what_exists(stack, "allowed")

        run_id, approval_id = await asked(stack, "refused")
        assert (await stack.portway("approvals", "deny", approval_id, "--note", "not on a Friday")).code == 0
        assert (await ended(stack, run_id)).state == run_pb2.RUN_STATE_COMPLETED
        async with stack.client() as host:
            assert "not on a Friday" in await last_words(host, "refused")
        late = await stack.portway("approvals", "approve", approval_id)
        assert late.code == 1 and "was denied" in late.err

        run_id, approval_id = await asked(stack, "survives")
        old = await stack.kill("host")
        await stack.restarted("host", old)
        async with stack.client() as host:

            async def takes_it_up() -> bool:
                return (await host.runs.get(run_id)).state == run_pb2.RUN_STATE_WAITING

            await until_told(takes_it_up)
            (still,) = await approvals(host.runs.stub, run_id=run_id)
            assert still.approval_id == approval_id and still.state == run_agent_pb2.APPROVAL_STATE_PENDING
        assert (await stack.portway("approvals", "approve", approval_id)).code == 0
        run = await ended(stack, run_id)
        assert (run.state, run.attempt) == (run_pb2.RUN_STATE_COMPLETED, 2)
        assert "survives" in await what_exists(stack, "survives")
        async with stack.client() as host:
            for name in ("allowed", "refused", "survives"):
                await assert_nothing_owned(host.runs.stub, conversation_id=name)


async def test_nobody_decides(tmp_path: Path) -> None:
    async with careful(tmp_path, limit="1s") as stack:
        async with stack.client() as host:
            accepted = await host.send("run: touch never; ls", conversation_id="never")
            run = await ended(stack, accepted.run_id)
            assert run.state == run_pb2.RUN_STATE_COMPLETED
            (one,) = await approvals(host.runs.stub, run_id=run.run_id)
            assert one.state == run_agent_pb2.APPROVAL_STATE_EXPIRED
            assert "in time" in await last_words(host, "never")
            await assert_nothing_owned(host.runs.stub, run_id=run.run_id)
