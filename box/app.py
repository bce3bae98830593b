"""Puts the box together: the only place where its parts are made."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from portway.box import installation
from portway.box.backends.choice import BackendChoice
from portway.box.backends.engine.backend import EngineBackend, EngineSettings
from portway.box.backends.engine.engine import DOCKER, PODMAN
from portway.box.backends.interface import Backend, Sandbox
from portway.box.backends.namespace.backend import NAME as NAMESPACE
from portway.box.backends.namespace.backend import NamespaceBackend, NamespacePaths
from portway.box.backends.namespace.machine import Machine
from portway.box.backends.types import WORKSPACE
from portway.box.config import BoxConfig
from portway.box.files.leftovers import remove_unfinished
from portway.box.files.servicer import FileServicer
from portway.box.files.session_files import FileThreads
from portway.box.images.directory import ImageDirectory
from portway.box.images.registry.pull import Puller
from portway.box.images.servicer import ImageServicer
from portway.box.images.shelf import Depot, ImageShelf
from portway.box.images.unpacking import Confinement
from portway.box.images.validation import Validations
from portway.box.isolation.users import IMAGE_OWNER, UserPool
from portway.box.network.addresses import AddressRules
from portway.box.network.networks import Networks
from portway.box.paging import Pager
from portway.box.processes.directory import ProcessDirectory
from portway.box.processes.effects import EffectLedger
from portway.box.processes.lingering.directory import LingeringCommands
from portway.box.processes.records import ProcessRecords
from portway.box.processes.run import CommandRunner
from portway.box.processes.servicer import ProcessServicer
from portway.box.sessions.admission import Admission, SessionLimits
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.mounts import MountRules
from portway.box.sessions.profiles import ProfileBook
from portway.box.sessions.servicer import SessionServicer
from portway.box.sessions.store import SessionStore
from portway.box.sessions.types import SessionRef
from portway.box.skills.environments import SkillEnvironments
from portway.box.skills.servicer import SkillMountServicer
from portway.box.skills.store import SkillStore
from portway.box.sockets.directory import SocketDirectory
from portway.box.sockets.places import SocketLimits
from portway.box.sockets.servicer import SocketServicer
from portway.box.status.doctor import Doctor
from portway.box.status.errors import ErrorLog
from portway.box.status.health import BoxHealth
from portway.box.status.metrics import BoxNumbers
from portway.box.status.servicer import BoxServicer
from portway.box.tasks import in_background
from portway.rpc.binding import Service
from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import PortwayError
from portway.rpc.limits import Limits
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.metrics.listener import show_metrics
from portway.rpc.pass_keys import PassAuthenticator, PassKeys
from portway.rpc.passes import BOX
from portway.rpc.serving import RunningServer, TlsConfig, serve
from portway.rpc.streams import OpenStreams
from portway.rpc.token_file import TokenFile
from portway.rpc.traces.config import TelemetryConfig
from portway.rpc.traces.export import export_spans
from portway.v1 import box_pb2, file_pb2, image_pb2, process_pb2, session_pb2, skill_mount_pb2, socket_pb2

_CURSOR_KEY_BYTES = 32


class Box:
    """A box that serves. `stopping` is set when somebody asks it to end; `grace` is then the time in seconds."""

    def __init__(self, config: BoxConfig, telemetry: TelemetryConfig | None = None) -> None:
        self._config = config
        self._telemetry = telemetry or TelemetryConfig()
        self.stopping = asyncio.Event()
        self._grace = config.drain_grace

    def shut_down(self, grace: float) -> None:
        self._grace = grace
        self.stopping.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RunningServer]:
        """Leaving the block drains, ends what runs, and takes everything down in the opposite order of the start."""
        config = self._config
        authenticator = _authenticator(config)
        async with AsyncExitStack() as stack:
            own = installation.take(config.data)
            stack.callback(own.close)
            errors = ErrorLog()
            parts = _Parts(config, own, errors)
            await parts.start(stack)
            recorder = await stack.enter_async_context(export_spans(self._telemetry, "box"))
            calls = CallCounts() if config.metrics.listen else None
            if calls is not None:
                shown = show_metrics(config.metrics, _tls(config), [calls, parts.numbers()])
                await stack.enter_async_context(shown)
            streams = OpenStreams()
            await stack.enter_async_context(in_background(streams.watch(authenticator.check_standing)))
            server = await stack.enter_async_context(
                serve(
                    parts.services(self.shut_down),
                    address=config.listen,
                    authenticator=authenticator,
                    tls=_tls(config),
                    limits=Limits(concurrent_calls=config.max_concurrent_calls),
                    grace=0,
                    counts=calls,
                    streams=streams,
                    recorder=recorder,
                )
            )
            parts.sessions.when_draining(lambda: _say_not_serving(server))
            try:
                yield server
            finally:
                parts.sessions.drain()
                await server.stop(self._grace)


class _Parts:
    """What the services are made of."""

    def __init__(self, config: BoxConfig, own: installation.Installation, errors: ErrorLog) -> None:
        self._config = config
        self._errors = errors
        codec = CursorCodec(_cursor_key(config.data / "cursor.key"))
        self._pages, self._codec = Pager(codec), codec
        paths = NamespacePaths(config.data, config.user_locks)
        self._backend = BackendChoice(self._backends(paths, own), config.backend)
        self._store = SessionStore(paths.sessions)
        self._skills = SkillStore(config.data / "skills", config.skills_bytes)
        self._networks = Networks(config.network, UserPool(config.user_locks) if Machine.look().root else None, errors)
        self.sessions = SessionDirectory(
            self._backend,
            ProfileBook(config.profiles, config.ceiling),
            MountRules(config.mount_roots, (config.data, config.credentials.parent)),
            self._store,
            Admission(
                SessionLimits(config.max_sessions, config.max_sessions_per_workspace),
                config.require_probes,
                lambda: self.health.known,
            ),
            errors,
            self._skills,
            self._networks,
            enabled=config.enabled,
            patience=config.create_timeout,
        )
        self._threads = FileThreads()
        self._runner = CommandRunner(self.sessions, EffectLedger(config.data / "effects.jsonl"), self._threads)
        self._processes = ProcessDirectory(self.sessions, ProcessRecords(paths.sessions))
        self._lingering = LingeringCommands(self._runner)
        self.sessions.returning.tidied_by(self._tidy)
        self.sessions.before_delete(self._processes.forget_session)
        self.sessions.before_delete(self._lingering.forget_session)
        self._sockets = SocketDirectory(self.sessions, SocketLimits(), errors)
        self.sessions.before_delete(self._sockets.forget_session)
        self._validations = Validations(self._backend.create, config.images.concurrent_validations)
        self._images = ImageDirectory(
            lambda: self._backend.images, self.sessions.count_of_image, self.sessions.require_open, self._validations
        )
        self.health: BoxHealth

    def _namespace(self, paths: NamespacePaths, own: installation.Installation) -> NamespaceBackend:
        return NamespaceBackend(paths, own, self._lost, shelf=self._shelf(paths.data / "images", NAMESPACE, None))

    def _shelf(self, folder: Path, backend: str, depot: Depot | None) -> ImageShelf:
        machine, settings, network = Machine.look(), self._config.images, self._config.network
        confinement = Confinement(IMAGE_OWNER if machine.root else None, machine.filters)
        rules = AddressRules(network.allowed_private, network.denied)
        puller = Puller(settings.allow, settings.registries, rules)
        return ImageShelf(folder, settings, confinement, backend, puller, depot)

    def _backends(self, paths: NamespacePaths, own: installation.Installation) -> dict[str, Backend]:
        made: dict[str, Backend] = {NAMESPACE: self._namespace(paths, own)}
        engine = self._config.engine
        for kind, socket in ((DOCKER, engine.docker_socket), (PODMAN, engine.podman_socket)):
            allow = self._config.images.allow
            settings = EngineSettings(socket, engine.image, allow, engine.start_timeout, os.environ)
            shelf = partial(self._shelf, paths.data / f"images-{kind}", kind)
            made[kind] = EngineBackend(kind, settings, paths, own.identity, shelf=shelf)
        return made

    async def _tidy(self, ref: SessionRef, sandbox: Sandbox) -> None:
        """Of an upload that was cut off with the box nothing stays. What cannot be removed holds nothing up."""
        access = sandbox.files()
        try:
            await self._threads.run(access, WORKSPACE, partial(remove_unfinished, access))
        except PortwayError as error:
            self._errors.note("TIDY_FAILED", error.message, ref.session_id, ref.workspace_id)

    def _lost(self, reason: str) -> None:
        self.sessions.lose_sandboxes()
        self._sockets.lose_sandboxes()
        self.health.distrust(reason)

    async def start(self, stack: AsyncExitStack) -> None:
        swept = await self._backend.cleanup(self._store.keys())
        stack.push_async_callback(self._backend.close)
        stack.push_async_callback(self._networks.gate.stop)
        stack.callback(self._threads.close)
        swept += await asyncio.to_thread(self._skills.start, self.sessions.shown_skills)
        self.sessions.restore()
        self.health = BoxHealth(
            self._backend, self.sessions, self._runner, self._errors, enabled=self._config.enabled, swept=swept
        )
        stack.push_async_callback(self.sessions.close)
        stack.push_async_callback(self._validations.close)
        stack.push_async_callback(self._processes.close)
        stack.push_async_callback(self._lingering.close)
        report = await self.health.report(fresh=True)
        self._processes.restore()
        structlog.get_logger().info(
            "backend", name=report.name, available=report.available, mode=report.mode, reason=report.reason, swept=swept
        )
        await stack.enter_async_context(
            in_background(self.sessions.reap_forever(self._config.reap_interval), self._processes.forget_forever())
        )

    def numbers(self) -> BoxNumbers:
        return BoxNumbers(self.sessions, self._runner, self.health, self._errors)

    def services(self, shut_down: Callable[[float], None]) -> list[Service]:
        boxes = BoxServicer(
            self.health, self._errors, Doctor(self._config.data, self._config.engine.sockets), self._pages, shut_down
        )
        sessions = SessionServicer(self.sessions, self._pages)
        processes = ProcessServicer(self._runner, self._lingering, self._processes, self._pages)
        images = ImageServicer(self._images, self._pages)
        environments = SkillEnvironments(self.sessions, self._runner)
        skills = SkillMountServicer(self._skills, self.sessions, environments)
        files = FileServicer(self.sessions, self._threads, self._codec, self._config.search_timeout)
        sockets = SocketServicer(self._sockets, self._pages)
        return [
            Service(session_pb2.DESCRIPTOR.services_by_name["SessionService"], sessions),
            Service(process_pb2.DESCRIPTOR.services_by_name["ProcessService"], processes),
            Service(file_pb2.DESCRIPTOR.services_by_name["FileService"], files),
            Service(socket_pb2.DESCRIPTOR.services_by_name["SocketService"], sockets),
            Service(image_pb2.DESCRIPTOR.services_by_name["ImageService"], images),
            Service(skill_mount_pb2.DESCRIPTOR.services_by_name["SkillMountService"], skills),
            Service(
                box_pb2.DESCRIPTOR.services_by_name["BoxService"], boxes, quiet_methods=frozenset({"GetBoxStatus"})
            ),
        ]


def _authenticator(config: BoxConfig) -> TokenFile | PassAuthenticator:
    tokens = TokenFile(config.credentials)
    if config.pass_keys is None:
        return tokens
    return PassAuthenticator(PassKeys(config.pass_keys), BOX, tokens, tokens.check_standing)


def _say_not_serving(server: RunningServer) -> None:
    """In the health of every service of the box; the health service itself goes on answering."""
    for service in server.services:
        if service.name.startswith("portway."):
            server.set_serving(service.name, False)


def _tls(config: BoxConfig) -> TlsConfig | None:
    tls = config.tls
    return TlsConfig(tls.certificate, tls.private_key, tls.client_ca) if tls is not None else None


def _cursor_key(file: Path) -> bytes:
    if not file.exists():
        writing = file.with_suffix(".new")
        descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(os.urandom(_CURSOR_KEY_BYTES))
        writing.rename(file)
    return file.read_bytes()
