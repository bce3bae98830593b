"""Looks at every part. A part that does not answer is described; it never holds the answer up for long."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from portway.rpc.errors import DeadlineExceeded, PortwayError
from portway.rpc.status import errors_by_meaning
from portway.server.adapters.connection import Connections
from portway.server.adapters.store import StoredAdapters
from portway.server.agents.check_again import problem_of
from portway.server.agents.store import Agents
from portway.server.deliveries.store import StoredDeliveries
from portway.server.deliveries.types import DeliveryState
from portway.server.models.registry import ModelRegistry
from portway.server.runtimes.link import RuntimeLink
from portway.server.status.types import Figures, Part, PartState
from portway.server.storage_engine.database import Database
from portway.v1 import box_pb2, runtime_pb2, runtime_pb2_grpc

ASK_SECONDS = 2.0
MAX_ADAPTERS = 100
MAX_AGENTS = 200
_STUCK = (DeliveryState.UNKNOWN, DeliveryState.FAILED, DeliveryState.DEAD_LETTER)

Answer = TypeVar("Answer")


class Runs(Protocol):
    """What executes and what waits."""

    @property
    def waiting_count(self) -> int: ...
    @property
    def active_count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found. `box` and `runtime` are their own words; None where they did not answer."""

    parts: tuple[Part, ...]
    figures: Figures
    box: box_pb2.GetBoxStatusResponse | None
    runtime: runtime_pb2.GetRuntimeStatusResponse | None


class Lookout:
    """Asks the parts each time: nothing is remembered, so nothing is out of date."""

    def __init__(
        self,
        *,
        database: Database,
        data: Path,
        runs: Runs,
        deliveries: StoredDeliveries,
        models: ModelRegistry,
        runtime: RuntimeLink,
        box: Callable[[], Awaitable[box_pb2.GetBoxStatusResponse]] | None,
        adapters: StoredAdapters,
        connections: Connections,
        agents: Agents,
    ) -> None:
        self._database = database
        self._data = data
        self._runs = runs
        self._deliveries = deliveries
        self._models = models
        self._runtime = runtime
        self._box = box
        self._adapters = adapters
        self._connections = connections
        self._agents = agents

    async def look(self, workspace_id: str) -> Seen:
        """The state of everything, as the workspace may see it."""
        (box_part, box), (runtime_part, runtime) = await asyncio.gather(self._see_box(), self._see_runtime())
        parts = [
            Part("host", PartState.OK),
            runtime_part,
            box_part,
            self._see_database(),
            self._see_models(),
            *await self._see_adapters(workspace_id),
            *await self._see_agents(workspace_id),
        ]
        return Seen(tuple(parts), await self._figures(workspace_id), box, runtime)

    async def _see_box(self) -> tuple[Part, box_pb2.GetBoxStatusResponse | None]:
        if self._box is None:
            reason = "no box is configured, so no command can run; set host.box, or start everything with `portway up`"
            return Part("box", PartState.DISABLED, reason), None
        answer = await _asked(self._box())
        if isinstance(answer, str):
            return Part("box", PartState.UNAVAILABLE, f"it does not answer: {answer}"), None
        if not answer.enabled:
            return Part("box", PartState.DISABLED, answer.reason), answer
        if not answer.available:
            return Part("box", PartState.UNAVAILABLE, answer.reason), answer
        unenforced = ", ".join(answer.backend.unenforced_limits)
        if unenforced:
            return Part("box", PartState.DEGRADED, f"limits that are not enforced here: {unenforced}"), answer
        return Part("box", PartState.OK), answer

    async def _see_runtime(self) -> tuple[Part, runtime_pb2.GetRuntimeStatusResponse | None]:
        state = self._runtime.state
        if not state.connected:
            return Part("runtime", PartState.UNAVAILABLE, state.reason, state.address), None
        stub = runtime_pb2_grpc.RuntimeServiceStub(self._runtime.channel)
        answer = await _asked(stub.GetRuntimeStatus(runtime_pb2.GetRuntimeStatusRequest(), timeout=ASK_SECONDS))
        if isinstance(answer, str):
            return Part("runtime", PartState.UNAVAILABLE, f"it does not answer: {answer}", state.address), None
        if answer.broken_count:
            reason = f"{answer.broken_count} plugins cannot be used; `portway plugin list` says why"
            return Part("runtime", PartState.DEGRADED, reason, state.address), answer
        return Part("runtime", PartState.OK, address=state.address), answer

    def _see_database(self) -> Part:
        try:
            self._database.ensure_room()
        except PortwayError as error:
            return Part("database", PartState.DEGRADED, error.message, self._database.server)
        return Part("database", PartState.OK, address=self._database.server)

    def _see_models(self) -> Part:
        default = self._models.default_model_id
        if self._models.model(default).provider_id == "demo":
            reason = "the default model is the built-in demo; set models.default for a real one"
            return Part("models", PartState.OK, reason)
        return Part("models", PartState.OK)

    async def _see_adapters(self, workspace_id: str) -> list[Part]:
        parts = []
        for record in await self._adapters.page(workspace_id, "", MAX_ADAPTERS):
            here = self._connections.current((workspace_id, record.adapter_id)) is not None
            reason = "" if here else "it is not connected; its deliveries wait"
            state = PartState.OK if here else PartState.UNAVAILABLE
            parts.append(Part(f"adapter:{record.adapter_id}", state, reason))
        return parts

    async def _see_agents(self, workspace_id: str) -> list[Part]:
        """Those that cannot answer as they are. While the runtime is away nothing is known of them."""
        if not self._runtime.state.connected:
            return []
        agents = await self._agents.page(workspace_id, "", MAX_AGENTS)
        problems = ((agent, problem_of(agent, self._runtime.runners)) for agent in agents if not agent.spec.disabled)
        return [Part(f"agent:{agent.agent_id}", PartState.DEGRADED, problem) for agent, problem in problems if problem]

    async def _figures(self, workspace_id: str) -> Figures:
        counts = await self._deliveries.counts(workspace_id)
        disk = await asyncio.to_thread(shutil.disk_usage, self._data)
        written, read = self._database.writer.counters, self._database.reader
        return Figures(
            queued_runs=self._runs.waiting_count,
            active_runs=self._runs.active_count,
            pending_deliveries=counts.get(DeliveryState.PENDING, 0),
            stuck_deliveries=sum(counts.get(state, 0) for state in _STUCK),
            free_disk_bytes=disk.free,
            sql_statements=written.statements + read.statements,
            sql_commits=written.commits,
        )


async def _asked(question: Awaitable[Answer]) -> Answer | str:
    """The answer, or why there is none in time."""
    try:
        with errors_by_meaning():
            return await asyncio.wait_for(question, ASK_SECONDS)
    except (TimeoutError, DeadlineExceeded):
        return f"no answer within {ASK_SECONDS:.0f} s"
    except PortwayError as error:
        return error.message
