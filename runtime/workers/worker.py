"""One process of a plugin and the connection to it, from the start to the last trace."""

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import grpc

from portway.rpc.errors import PortwayError, Reason, Unavailable
from portway.rpc.limits import MESSAGE_BYTES
from portway.rpc.status import error_from_rpc
from portway.rpc.telemetry import TRACE_HEADER, current_trace
from portway.runtime.plugins.types import Command, PluginDefinition, ProcessLimits, kind_of
from portway.runtime.workers.environment import WorkerFolder
from portway.runtime.workers.groups import Group, Groups
from portway.runtime.workers.log import Output, PluginLog
from portway.runtime.workers.messages import Start
from portway.runtime.workers.output_pipes import spawn
from portway.runtime.workers.spawner import Process, ProcessEnd, Spawner
from portway.runtime.workers.types import WorkerLimits
from portway.v1 import worker_pb2 as pb

CONTRACT_VERSIONS = (1,)
SERVICE = "/portway.v1.WorkerService/"
RUNTIME_VERSION = "1"

_OPTIONS = [
    ("grpc.max_receive_message_length", 4 * MESSAGE_BYTES),
    ("grpc.max_send_message_length", 4 * MESSAGE_BYTES),
    # The socket appears while we look for it; a local connection costs nothing to try again.
    ("grpc.initial_reconnect_backoff_ms", 20),
    # In spite of its name, how long one attempt to connect may take: a busy plugin is not an absent one.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]
# What a process printed last is there at once; only a process that it left behind keeps a pipe open.
OUTPUT_SECONDS = 0.5
# Where a group bounds what is used, a process may ask for more than that: Python gets an error for one great wish, and
# the kernel ends whoever grows over the limit bit by bit.
_RESERVED_SHARE = 2
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.02


class Worker:
    """A plugin's process. `finished_count` are runs that came to an end of their own."""

    def __init__(
        self,
        plugin: PluginDefinition,
        generation: int,
        folder: WorkerFolder,
        process: Process,
        output: Output,
        limits: WorkerLimits,
        group: Group,
    ) -> None:
        self.plugin = plugin
        self.generation = generation
        self.process = process
        self.start_time = datetime.now(UTC)
        self.finished_count = 0
        self.run_count = 0
        self.unused = asyncio.Event()
        self.unused.set()
        self.last_used = time.monotonic()
        self.stopping = False
        # What whoever keeps it does when its connection breaks although its process is there.
        self.suspect: Callable[[], None] = lambda: None
        self._folder = folder
        self._output = output
        self._limits = limits
        self._group = group
        self._ended_how = ""
        self._cookie = folder.cookie_file.read_text()
        self._channel = grpc.aio.insecure_channel(f"unix:{folder.socket}", options=_OPTIONS)

    def take(self) -> None:
        """One more run is on it."""
        self.run_count += 1
        self.unused.clear()

    def give_back(self, *, finished: bool) -> None:
        self.run_count -= 1
        self.finished_count += finished
        self.last_used = time.monotonic()
        if self.run_count == 0:
            self.unused.set()

    @property
    def end(self) -> "asyncio.Future[ProcessEnd]":
        return self.process.end

    def ended_how(self) -> str:
        """For people, once it has ended: `was ended by signal 9`, or what limit it met."""
        if not self._ended_how:
            self._ended_how = f"{self._limit_met()}{self.end.result()}"
        return self._ended_how

    def _limit_met(self) -> str:
        end, limits = self.end.result(), self.plugin.limits
        if end.signal == signal.SIGKILL and self._group.out_of_memory():
            return f"met its memory limit of {limits.memory_mb} MB (limits.memory_mb in its manifest) and "
        if (end.signal or end.code) and self._group.out_of_processes():
            return f"met its limit of {limits.processes} processes and threads (limits.processes in its manifest) and "
        return ""

    @property
    def age(self) -> float:
        return (datetime.now(UTC) - self.start_time).total_seconds()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        own = (("authorization", f"Bearer {self._cookie}"),)
        trace = current_trace.get()
        return own if trace is None else (*own, (TRACE_HEADER, trace.traceparent()))

    def open_run(self) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        """A run's stream, in bytes: nothing is parsed on the way."""
        return self._channel.stream_stream(f"{SERVICE}RunAgent")(metadata=self.metadata)

    def call_tool(self, request: pb.WorkerServiceCallToolRequest) -> "grpc.aio.UnaryStreamCall[Any, bytes]":
        method: Any = self._channel.unary_stream(f"{SERVICE}CallTool")
        return cast("grpc.aio.UnaryStreamCall[Any, bytes]", method(request.SerializeToString(), metadata=self.metadata))

    def open_component(self) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        """The stream of a component's call, in bytes."""
        return self._channel.stream_stream(f"{SERVICE}RunComponent")(metadata=self.metadata)

    async def shake_hands(self) -> None:
        """Waits until the process answers. Raises `Unavailable` with a reason for people."""
        asking = asyncio.ensure_future(self._shake_hands())
        either: list[asyncio.Future[Any]] = [asking, self.end]
        try:
            # A process that ends would otherwise be waited for until the time is over.
            await asyncio.wait(either, timeout=self._limits.start, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                self._check(asking.result())
                if not self._limits.keep_cookies:
                    # It has read its own; nobody else is to.
                    self._folder.cookie_file.unlink(missing_ok=True)
            elif self.end.done():
                raise _unusable(f"{self.ended_how()} before it answered")
            else:
                raise _unusable(f"did not answer the handshake within {self._limits.start:g} seconds")
        except grpc.aio.AioRpcError as error:
            raise _unusable(f"refused the handshake: {error_from_rpc(error).message}") from None
        finally:
            asking.cancel()

    async def _shake_hands(self) -> pb.HandshakeResponse:
        pause = _FIRST_LOOK
        while not self._folder.socket.exists():
            await asyncio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 2)
        request = pb.HandshakeRequest(
            protocol_versions=CONTRACT_VERSIONS, runtime_version=RUNTIME_VERSION, generation=self.generation
        )
        answer: pb.HandshakeResponse = await self._ask("Handshake", request, pb.HandshakeResponse.FromString)
        return answer

    def _check(self, answer: pb.HandshakeResponse) -> None:
        if answer.protocol_version not in CONTRACT_VERSIONS:
            raise _unusable(f"speaks version {answer.protocol_version} of the worker contract, which is not known here")
        offered = {(one.kind, one.name) for one in answer.components}
        every = (*self.plugin.runners, *self.plugin.tools, *self.plugin.others)
        wanted = {(str(kind_of(one)), one.name) for one in every}
        if missing := sorted(wanted - offered):
            names = ", ".join(f"{kind} {name}" for kind, name in missing)
            raise _unusable(f"does not offer {names}, which its manifest names; correct one of the two")

    async def under_way(self, seconds: float | None = None) -> int | None:
        """How many runs and calls it says that it holds; None where it does not answer within the usual time, or
        `seconds`."""
        try:
            async with asyncio.timeout(seconds or self._limits.ping):
                answer: pb.PingResponse = await self._ask("Ping", pb.PingRequest(), pb.PingResponse.FromString)
        except (TimeoutError, grpc.aio.AioRpcError):
            return None
        return answer.run_count

    async def is_alive(self, seconds: float | None = None) -> bool:
        """Whether its loop still answers."""
        return await self.under_way(seconds) is not None

    async def drain(self) -> None:
        """Asks it to take nothing new and to end once it is idle."""
        request = pb.DrainWorkerRequest(grace_millis=int(self._limits.drain * 1000))
        try:
            async with asyncio.timeout(self._limits.ping):
                await self._ask("DrainWorker", request, pb.DrainWorkerResponse.FromString)
        except (TimeoutError, grpc.aio.AioRpcError):
            # It is stopped all the same, only less politely.
            return

    async def end_hung(self) -> None:
        """Ends a process whose loop does not answer; its runs are told why."""
        self._ended_how = f"gave no sign of life for {self._limits.hung:g} seconds and was ended"
        await self.kill()

    async def kill(self) -> None:
        """Ends the process and its group; whoever keeps it sees a crash."""
        await self._signal(signal.SIGKILL)

    async def stop(self, *, kill: bool = False) -> None:
        """Ends the process and its group, waits for it, and cleans up."""
        self.stopping = True
        if not kill:
            await self._signal(signal.SIGTERM)
            await asyncio.wait([self.end], timeout=self._limits.kill)
        await self._signal(signal.SIGKILL)
        await asyncio.shield(self.end)
        await self.clean_up()

    async def clean_up(self) -> None:
        """After the end of the process. The runs on it hear of the end first: closing the channel would cancel them."""
        unused = asyncio.ensure_future(self.unused.wait())
        await asyncio.wait([unused], timeout=self._limits.kill)
        unused.cancel()
        await self._channel.close()
        await self._output.finish(OUTPUT_SECONDS)
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        self._group.remove()
        shutil.rmtree(self._folder.path, ignore_errors=True)

    async def _signal(self, number: int) -> None:
        try:
            await self.process.signal(number)
        except Unavailable:
            # The fork server is gone, and its children with it.
            return

    async def _ask(self, method: str, request: Any, parse: Callable[[bytes], Any]) -> Any:
        ask: Any = self._channel.unary_unary(f"{SERVICE}{method}", response_deserializer=parse)
        return await ask(request.SerializeToString(), metadata=self.metadata, wait_for_ready=True)


async def start_worker(
    plugin: PluginDefinition,
    generation: int,
    folder: WorkerFolder,
    environment: dict[str, str],
    spawner: Spawner,
    log: PluginLog,
    limits: WorkerLimits,
    groups: Groups,
    python: Path | None = None,
) -> Worker:
    """A worker that is ready. `python` is that of its own packages. Raises `Unavailable` or `OSError`; then nothing of
    it is left."""
    group = await asyncio.to_thread(_make, folder, groups, plugin.limits)
    arguments = plugin.execution.arguments if isinstance(plugin.execution, Command) else ()
    if python is not None:
        # The folder of the plugin is put first by the worker itself.
        arguments = (str(python), "-P", "-s", "-m", "portway.runtime.sdk.worker")
    start = Start(
        id=spawner.next_id(),
        name=plugin.id.rpartition("/")[2],
        folder=str(plugin.folder),
        arguments=arguments,
        environment=environment,
        memory_bytes=plugin.limits.memory_mb * (_RESERVED_SHARE if group.bounds_memory else 1) * 1024 * 1024,
        open_files=plugin.limits.open_files,
        tag=folder.tag,
        groups=group.entrances,
    )
    try:
        process, output = await spawn(spawner, start, log)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_unmake, folder, group))
        raise
    worker = Worker(plugin, generation, folder, process, output, limits, group)
    try:
        await worker.shake_hands()
    except (PortwayError, asyncio.CancelledError):
        await worker.stop(kill=True)
        raise
    return worker


def _make(folder: WorkerFolder, groups: Groups, limits: ProcessLimits) -> Group:
    folder.path.mkdir(mode=0o700, parents=True)
    folder.temporary.mkdir(mode=0o700)
    descriptor = os.open(folder.cookie_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return groups.make(folder.path.name, limits)


def _unmake(folder: WorkerFolder, group: Group) -> None:
    group.remove()
    shutil.rmtree(folder.path, ignore_errors=True)


def _unusable(message: str) -> Unavailable:
    return Unavailable(f"the plugin's process {message}", reason=Reason.RUNNER_UNAVAILABLE)
