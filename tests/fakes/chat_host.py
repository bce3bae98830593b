"""A scripted host for adapters: the services they use, on a real server, strict about what they send, with faults.

It can be stopped and started again on the same port with the same store, as a host that was killed; and it can lose
answers, say things twice, cut connections and come to its end politely.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from portway.rpc.binding import Service
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import RunningServer, serve
from portway.rpc.tokens import FixedTokens, mint_token
from portway.v1 import adapter_pb2, artifact_pb2, conversation_pb2, run_pb2
from tests.fakes.chat_agent import Agent, Script
from tests.fakes.chat_connect import Connections, ScriptedAdapterService
from tests.fakes.chat_reads import ScriptedArtifacts, ScriptedConversations, ScriptedRuns
from tests.fakes.chat_store import ChatStore, StoredRun


@dataclass(slots=True)
class Faults:
    """What goes wrong. Counters count down."""

    lose_acks: int = 0
    """Events that are taken, and whose connection is cut before the answer."""
    double_deliveries: bool = False
    refuse_events: list[adapter_pb2.AdapterEventAck] = field(default_factory=list)
    unreadable: bool = False
    """Transcripts cannot be read."""


class ChatHost:
    """The host of a test. `token` is the adapter's; `violations` holds what an adapter must not have sent."""

    def __init__(self, store: ChatStore | None = None, script: Script | None = None) -> None:
        self.store = store or ChatStore()
        self.script = script or Script()
        self.faults = Faults()
        self.violations: list[str] = []
        self.minted = mint_token("adapter")
        self.connections = Connections(self.store, self.faults, self.violations, self._start_run)
        self._stack = AsyncExitStack()
        self._server: RunningServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._address = "127.0.0.1:0"

    @property
    def token(self) -> str:
        return self.minted.text

    @property
    def address(self) -> str:
        return self._address

    async def start(self) -> None:
        """Listens, on the same port as before; what was not finished begins again, as after a crash."""
        caller = Caller(Role.ADAPTER, "default", self.minted.token_id, "")
        self._server = await self._stack.enter_async_context(
            serve(
                [
                    Service(adapter_pb2.DESCRIPTOR.services_by_name["AdapterService"], self._adapters()),
                    Service(
                        conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"],
                        ScriptedConversations(self.store, self.faults),
                    ),
                    Service(run_pb2.DESCRIPTOR.services_by_name["RunService"], ScriptedRuns(self.store)),
                    Service(artifact_pb2.DESCRIPTOR.services_by_name["ArtifactService"], ScriptedArtifacts(self.store)),
                ],
                address=self._address,
                authenticator=FixedTokens([(self.token, caller)]),
                grace=0.0,
            )
        )
        self._address = self._server.address
        for run in list(self.store.runs.values()):
            if run.open:
                self._start_run(run)

    async def kill(self) -> None:
        """Everything in memory is gone: connections, runs under way. The store stays."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in self.store.runs.values():
            run.watchers.clear()
        self.connections.forget()
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def cut(self) -> None:
        """Ends all connections of adapters as a broken network would."""
        self.connections.cut()

    def _adapters(self) -> ScriptedAdapterService:
        return ScriptedAdapterService(self.connections)

    def _start_run(self, run: StoredRun) -> None:
        agent = Agent(self.store, self.script, self.connections.deliver)
        task = asyncio.ensure_future(agent.execute(run))
        self._tasks.add(task)
        task.add_done_callback(self._run_ended)

    def _run_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.violations.append(f"the scripted agent has a bug: {task.exception()!r}")


@asynccontextmanager
async def chat_host(script: Script | None = None) -> AsyncIterator[ChatHost]:
    """A host while the block runs. At the end it fails for whatever an adapter sent that the contract forbids."""
    host = ChatHost(script=script)
    await host.start()
    try:
        yield host
    finally:
        await host.kill()
    assert host.violations == []
