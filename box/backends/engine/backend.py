"""Docker and Podman: one container for each session, with a keeper inside that runs its commands without the engine."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from portway.box.backends.engine.container import INSTALLATION_LABEL, SESSION_LABEL, Plan, container_config
from portway.box.backends.engine.engine import PODMAN, Engine, EngineAddress, EngineImage
from portway.box.backends.engine.groups import ContainerGroups
from portway.box.backends.engine.images import EngineDepot, EngineImages, is_kept
from portway.box.backends.engine.keeper_client import KeeperClient, KeeperDoor
from portway.box.backends.engine.kit import Kit, make_kit
from portway.box.backends.engine.network import ContainerNetwork
from portway.box.backends.engine.placing import Placing, place
from portway.box.backends.engine.sandbox import ContainerParts, ContainerSandbox
from portway.box.backends.engine.skills import NO_SKILLS, ContainerSkills, first_skills
from portway.box.backends.interface import Sandbox
from portway.box.backends.namespace.backend import NamespacePaths
from portway.box.backends.namespace.held import held_by
from portway.box.backends.namespace.machine import Machine
from portway.box.backends.namespace.probe import measure as measure_inside
from portway.box.backends.types import (
    TEMPORARY,
    WORKSPACE,
    BackendReport,
    HeldThing,
    HostMount,
    IsolationProbe,
    MountMode,
    Network,
    SandboxSpec,
)
from portway.box.images.interface import Images
from portway.box.images.shelf import Depot, ImageShelf
from portway.box.isolation.disk_images import ImageMaker
from portway.box.isolation.limits import MEBI, Limits
from portway.box.isolation.removal import remove_whole
from portway.box.isolation.seccomp import NoPrograms, engine_profile, program_files
from portway.box.isolation.syscalls import open_without_links
from portway.box.isolation.users import UserLease, UserPool
from portway.box.tasks import to_its_end
from portway.rpc.errors import NotFound, PortwayError, Unavailable, WrongState

PROBE_LIMITS = Limits(memory_bytes=128 * MEBI, disk_bytes=16 * MEBI, inodes=1024, temporary_bytes=4 * MEBI)
Measure = Callable[[Sandbox], Awaitable[tuple[IsolationProbe, ...]]]
_DISK, _FOLDER, _PROFILE = "workspace.ext4", "workspace", "profile.json"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`socket` is a path, empty for where the engine usually is, as `environment` tells it.

    `image` is for sessions that name none; `start_timeout` bounds each answer of the engine, in seconds. `allow`:
    patterns of the engine's own images that sessions may name.
    """

    socket: str = ""
    image: str = ""
    allow: tuple[str, ...] = ()
    start_timeout: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)


class EngineBackend:
    """Implements `Backend` on an engine of this machine."""

    def __init__(
        self,
        kind: str,
        settings: EngineSettings,
        paths: NamespacePaths,
        identity: str,
        measure: Measure | None = None,
        shelf: Callable[[Depot], ImageShelf] | None = None,
    ) -> None:
        self.name = kind
        self._settings = settings
        self._paths = paths
        self._identity = identity
        self._machine = Machine.look()
        self._disks = ImageMaker(paths.data / "templates")
        self._users = UserPool(paths.user_locks) if self._machine.root else None
        self._open_engine: Engine | None = None
        self._kit: Kit | None = None
        self._making_kit = asyncio.Lock()
        folder = str(paths.data.resolve())
        self._measure = measure or (lambda sandbox: measure_inside(sandbox, folder))
        self._not_contained: tuple[str, ...] = ()
        # There while the engine may have something of this installation: only then is it asked at a start.
        self._used = paths.data / f"{kind}.used"

        self._depot = EngineDepot(identity, lambda: self._engine, INSTALLATION_LABEL)
        self._shelf = shelf(self._depot) if shelf is not None else None
        self._images = (
            EngineImages(self._shelf, settings.allow, lambda: self._engine) if self._shelf is not None else None
        )

    @property
    def images(self) -> Images | None:
        return self._images

    def _address(self) -> EngineAddress:
        """Looked up each time: an engine may be started, or opened to this user, while the box runs."""
        return EngineAddress.find(self.name, self._settings.socket, self._settings.environment)

    @property
    def _engine(self) -> Engine:
        if self._open_engine is None:
            self._open_engine = Engine(self._address(), self._settings.start_timeout)
        return self._open_engine

    def _require(self, spec: SandboxSpec) -> None:
        """Raises `WrongState` with what is missing and what to do, before anything is asked or made."""
        problem = self._address().problem
        if problem:
            raise WrongState(problem)
        if os.geteuid() == 0 and not self._machine.root:
            raise WrongState("the box runs as root without root's capabilities (a container?); run it as a plain user")
        try:
            program_files()
            engine_profile()
        except NoPrograms as error:
            raise WrongState(str(error)) from None
        if spec.network is Network.ON and not self._machine.root:
            raise WrongState(
                f"the backend {self.name} gives sessions the network mode ON only where the box runs as root; ask for "
                "ALLOW_LIST or OFF, or use the namespace backend"
            )
        if spec.skills and not self._machine.root:
            raise WrongState(NO_SKILLS)
        if not spec.image and not self._settings.image:
            raise WrongState(
                f"the backend {self.name} has no image for this session: name one in `spec.image`, or set "
                "`box.engine.image` to one that the engine has"
            )

    async def create(self, spec: SandboxSpec) -> ContainerSandbox:
        if self._not_contained:
            raise WrongState(_refusal(self._not_contained))
        return await self._create(spec)

    async def _create(self, spec: SandboxSpec) -> ContainerSandbox:
        self._require(spec)
        image = await self._image(spec.image or self._settings.image)
        kit = await self._ready_kit()
        home = self._paths.home(spec.key)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as undo:
            lease = self._users.take(_last_user(home)) if self._users else None
            if lease is not None:
                undo.callback(lease.release)
                (home / "user").write_text(str(lease.user))
            door = KeeperDoor(home / "keeper", shared=lease is None)
            undo.callback(door.close)
            plan = self._plan(spec, image, kit, home, lease)
            self._used.touch()
            name = f"portway-{self._identity}-{secrets.token_hex(8)}"
            undo.push_async_callback(self._remove_quietly, name)
            container = await self._engine.create(name, container_config(plan))
            pid = await self._engine.start(container)
            line = await door.opened_by(pid, self._settings.start_timeout)
            keeper = KeeperClient(line, lambda: self._note_lost(spec.key))
            undo.callback(keeper.close)
            door.close()
            parts = await self._put_together(plan, keeper, container, pid, home, lease)
            undo.pop_all()
            return ContainerSandbox(keeper, parts)
        raise AssertionError("unreachable")

    def _plan(self, spec: SandboxSpec, image: EngineImage, kit: Kit, home: Path, lease: UserLease | None) -> Plan:
        folder = None
        if lease is None and spec.workspace is not None:
            folder = spec.workspace.source
        elif lease is None and spec.persistent:
            folder = str((home / _FOLDER).resolve())
            (home / _FOLDER).mkdir(mode=0o700, exist_ok=True)
        return Plan(
            spec=spec,
            installation=self._identity,
            image_id=image.image_id,
            volumes=image.volumes,
            variables=image.variables,
            kit=kit,
            line=(home / "keeper").resolve(),
            user=lease.user if lease else os.getuid(),
            late=lease is not None,
            folder=folder,
            podman_profile=self._profile_file() if self.name == PODMAN else None,
        )

    def _profile_file(self) -> Path:
        """Podman reads the profile itself, where Docker gets it in the request."""
        file = self._paths.data / _PROFILE
        file.write_text(engine_profile())
        return file.resolve()

    async def _put_together(
        self, plan: Plan, keeper: KeeperClient, container: str, pid: int, home: Path, lease: UserLease | None
    ) -> ContainerParts:
        spec = plan.spec
        await keeper.ready()
        pidfd = os.pidfd_open(pid)
        directories: list[int] = []
        skills = ContainerSkills(spec, plan.user, -1, -1)
        network = ContainerNetwork(pid) if plan.late and spec.network is not Network.OFF else None
        try:
            if network is not None and spec.steering is not None:
                network.steer(spec.steering)
            if plan.late:
                skills = await to_its_end(asyncio.to_thread(self._place, plan, pid, home))
            shown = [mount for mount in spec.mounts if mount.mode is not MountMode.NONE]
            directories = await keeper.open([WORKSPACE, TEMPORARY, *(mount.target for mount in shown)])
            if not plan.late:
                _require_same(shown, directories[2:])
            groups = ContainerGroups.find(pid, container, spec.limits) if lease is not None else None
        except BaseException:
            for descriptor in (pidfd, *directories):
                os.close(descriptor)
            if network is not None:
                network.close()
            skills.close()
            raise
        measured = spec.workspace is None and plan.folder is None
        unenforced = _unenforced(plan, groups is not None, measured)
        return ContainerParts(
            spec, container, pidfd, home, plan.user, lease, groups, tuple(directories), unenforced, measured,
            self._engine.remove, network, skills,
        )  # fmt: skip

    def _place(self, plan: Plan, pid: int, home: Path) -> ContainerSkills:
        """Blocking. Puts the workspace and what else is mounted into the container."""
        spec = plan.spec
        image: int | None = None
        own = Placing("", "", WORKSPACE, True)
        if spec.workspace is not None:
            own = _placing(spec.workspace, WORKSPACE)
        else:
            image = self._open_disk(home, spec)
        shown = [_placing(mount, mount.target) for mount in spec.mounts if mount.mode is not MountMode.NONE]
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            seen = place([own, *shown], namespace, image, plan.user, first_skills(spec, plan.user))
        except BaseException:
            os.close(namespace)
            raise
        finally:
            if image is not None:
                os.close(image)
        return ContainerSkills(spec, plan.user, namespace, seen[0] if seen else -1)

    def _open_disk(self, home: Path, spec: SandboxSpec) -> int:
        limits = spec.limits
        return self._disks.open(home / _DISK, size=limits.disk_bytes, inodes=limits.inodes, journal=spec.persistent)

    async def _image(self, name: str) -> EngineImage:
        if is_kept(name):
            try:
                return await self._engine.image(self._depot.name_of(name))
            except NotFound:
                text = "the image of this session is not there any more; import it again and make a new session"
                raise WrongState(text) from None
        try:
            return await self._engine.image(name)
        except NotFound:
            raise WrongState(
                f"{self.name} has no image {name!r}: import or pull it, or name one that it has (`{self.name} images`)"
            ) from None

    async def _ready_kit(self) -> Kit:
        async with self._making_kit:
            if self._kit is None or not self._kit.folder.is_dir():
                folder = (self._paths.data / "keeper").resolve()
                folder.mkdir(mode=0o711, parents=True, exist_ok=True)
                self._kit = await to_its_end(asyncio.to_thread(make_kit, folder))
            return self._kit

    def _note_lost(self, key: str) -> None:
        structlog.get_logger().warning("a container ended by itself; what ran in it is lost", session=key)

    async def _remove_quietly(self, container: str) -> None:
        try:
            await self._engine.remove(container)
        except PortwayError as error:
            structlog.get_logger().warning("a container was not removed", container=container, reason=error.message)

    async def probe(self) -> BackendReport:
        """Makes a container and tries to get out of it."""
        key = f"probe{secrets.token_hex(8)}"
        mode = self._machine.mode
        try:
            self._require(SandboxSpec(key, PROBE_LIMITS))
            version = await self._engine.version()
            sandbox = await self._create(SandboxSpec(key, PROBE_LIMITS))
            try:
                probes = await self._measure(sandbox)
            finally:
                await sandbox.delete()
        except PortwayError as error:
            return BackendReport(self.name, False, error.message, mode)
        self._not_contained = tuple(probe.name for probe in probes if not probe.contained)
        if self._not_contained:
            return BackendReport(self.name, False, _refusal(self._not_contained), mode, sandbox.unenforced, probes)
        reason = f"works, {version}, {mode} mode; {len(probes)} isolation probes contained"
        return BackendReport(self.name, True, reason, mode, sandbox.unenforced, probes)

    async def discard(self, key: str) -> None:
        await asyncio.to_thread(remove_whole, self._paths.home(key))

    async def held(self, key: str) -> tuple[HeldThing, ...]:
        """The engine is asked only where this box uses it: for a look alone it is not loaded."""
        found = await asyncio.to_thread(held_by, self._paths.home(key), ())
        if not self._used.exists():
            return found
        try:
            containers = await self._engine.containers(self._labels() | {SESSION_LABEL: key})
        except PortwayError as error:
            return (*found, HeldThing("container", "unknown", error.message))
        return (*found, *(HeldThing("container", one[:12], f"of {self.name}") for one in containers))

    def _labels(self) -> dict[str, str]:
        return {INSTALLATION_LABEL: self._identity}

    async def cleanup(self, keep: frozenset[str]) -> int:
        """Removes containers of this installation, and no others; sandboxes of an earlier life cannot be taken up."""
        swept = await asyncio.to_thread(self._sweep_homes, keep)
        if self._shelf is not None:
            swept += await asyncio.to_thread(self._shelf.open)
            try:
                await self._shelf.sweep_depot()
            except PortwayError as error:
                structlog.get_logger().warning("unfinished images were not removed", reason=error.message)
        if not self._used.exists():
            return swept
        try:
            for container in await self._engine.containers(self._labels()):
                await self._engine.remove(container)
                swept += 1
            self._used.unlink()
        except PortwayError as error:
            structlog.get_logger().warning("containers were not looked through", reason=error.message)
        return swept

    def _sweep_homes(self, keep: frozenset[str]) -> int:
        sessions = self._paths.sessions
        left = [home for home in sessions.iterdir() if home.name not in keep] if sessions.is_dir() else []
        for home in left:
            remove_whole(home)
        return len(left)

    async def close(self) -> None:
        engine, self._open_engine = self._open_engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)


def _refusal(probes: tuple[str, ...]) -> str:
    return f"no sessions: measured inside a container on this machine and not contained: {', '.join(probes)}"


def _placing(mount: HostMount, target: str) -> Placing:
    path = os.path.relpath(mount.source, mount.root)
    return Placing(mount.root, path, target, mount.mode is MountMode.READ_WRITE)


def _last_user(home: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((home / "user").read_text())
    return None


def _require_same(mounts: list[HostMount], opened: list[int]) -> None:
    """Raises `Unavailable` where the engine, which looks paths up itself, mounted something else than was judged."""
    for mount, directory in zip(mounts, opened, strict=True):
        root = os.open(mount.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            judged = open_without_links(root, os.path.relpath(mount.source, mount.root), os.O_PATH)
        except OSError as error:
            raise Unavailable(f"the directory for {mount.target} cannot be mounted: {error.strerror}") from None
        finally:
            os.close(root)
        same = os.path.samestat(os.fstat(judged), os.fstat(directory))
        os.close(judged)
        if not same:
            raise Unavailable(f"the directory for {mount.target} changed while it was mounted; try again")


def _unenforced(plan: Plan, counted: bool, measured: bool) -> tuple[str, ...]:
    missing = []
    if not measured:
        missing.append("disk_bytes and the number of files (the workspace is a plain directory)")
    if not plan.spec.read_only_root:
        missing.append("disk_bytes for what is written outside of the workspace (the writable root)")
    if not counted:
        missing.append("peak memory of a command (told for its largest process)")
    return tuple(missing)
