"""The namespace backend: bubblewrap, control groups, system call filters, user namespaces; no daemon, no image."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.box.backends.interface import Sandbox
from portway.box.backends.namespace import wire
from portway.box.backends.namespace.commands import SandboxParts
from portway.box.backends.namespace.held import held_by
from portway.box.backends.namespace.image_programs import leader_in
from portway.box.backends.namespace.leader import OWN_LEADER, has_own_leader
from portway.box.backends.namespace.machine import Machine
from portway.box.backends.namespace.probe import measure
from portway.box.backends.namespace.sandbox import NamespaceSandbox
from portway.box.backends.namespace.session_skills import skill_orders
from portway.box.backends.namespace.stage import StagedSession
from portway.box.backends.namespace.zygote_client import ZygoteClient, ZygoteSetup
from portway.box.backends.types import (
    BackendReport,
    HeldThing,
    HostMount,
    IsolationProbe,
    MountMode,
    SandboxSpec,
)
from portway.box.images.interface import Images
from portway.box.images.shelf import ImageShelf
from portway.box.installation import Installation
from portway.box.isolation.cgroups import CgroupTree, SessionGroups
from portway.box.isolation.disk_images import ImageMaker
from portway.box.isolation.limits import MEBI, Limits
from portway.box.isolation.removal import remove_whole
from portway.box.isolation.users import UserLease, UserPool
from portway.rpc.errors import PortwayError, Unavailable, WrongState

NAME = "namespace"
Measure = Callable[[Sandbox], Awaitable[tuple[IsolationProbe, ...]]]
PROBE_LIMITS = Limits(memory_bytes=128 * MEBI, disk_bytes=16 * MEBI, inodes=1024, temporary_bytes=4 * MEBI)
_IMAGE = "workspace.ext4"
_FOLDER = "workspace"


@dataclass(frozen=True, slots=True)
class NamespacePaths:
    """Where the backend keeps things: everything below `data`, and the locks of user ids, shared by the machine."""

    data: Path
    user_locks: Path = Path("/run/portway-box-users")

    @property
    def sessions(self) -> Path:
        return self.data / "sessions"

    def home(self, key: str) -> Path:
        return self.sessions / key


class NamespaceBackend:
    """Implements `Backend`."""

    name = NAME

    def __init__(
        self,
        paths: NamespacePaths,
        installation: Installation,
        on_lost: Callable[[str], None],
        measure: Measure = measure,
        shelf: ImageShelf | None = None,
    ) -> None:
        self._paths = paths
        self._shelf = shelf
        self._installation = installation
        self._machine = Machine.look()
        self._tree = CgroupTree.find(f"portway-box-{installation.identity}") if self._machine.root else None
        self._images = ImageMaker(paths.data / "templates")
        self._users = UserPool(paths.user_locks) if self._machine.root else None
        self._zygote = ZygoteClient(on_lost)
        self._starting = asyncio.Lock()
        self._present: frozenset[str] = frozenset()
        self._measure = measure
        self._not_contained: tuple[str, ...] = ()

    @property
    def images(self) -> Images | None:
        return self._shelf

    async def _ensure_zygote(self) -> None:
        async with self._starting:
            if self._zygote.alive:
                return
            base = self._paths.data / "root"
            base.mkdir(mode=0o700, exist_ok=True)
            groups = tuple(self._tree.bases()) if self._tree else ()
            machine = self._machine
            lock = self._installation.launcher_lock
            setup = ZygoteSetup(machine.root, str(base.resolve()), machine.bwrap, machine.filters(), groups, lock)
            try:
                self._present = await self._zygote.start(setup)
                self._installation.note_launcher(self._zygote.pid)
            except Unavailable as error:
                await self._zygote.stop()
                raise Unavailable(f"{error.message}; {machine.hint(error.message)}") from None

    async def create(self, spec: SandboxSpec) -> NamespaceSandbox:
        if self._not_contained:
            raise WrongState(_refusal(self._not_contained))
        return await self._create(spec)

    async def _create(self, spec: SandboxSpec) -> NamespaceSandbox:
        self._machine.require()
        base = self._base(spec)
        await self._ensure_zygote()
        home = self._paths.home(spec.key)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = self._workspace_kind(spec)
        image = await self._image(home, spec) if kind == "image" else None
        lease = self._users.take(_last_user(home)) if self._users else None
        groups: SessionGroups | None = None
        try:
            if lease is not None:
                (home / "user").write_text(str(lease.user))
            groups = self._tree.create(spec.key, spec.limits) if self._tree and self._tree.kinds else None
            return await self._put_together(spec, home, kind, image, lease, groups, base)
        except BaseException:
            if groups is not None:
                await asyncio.to_thread(groups.kill_and_remove)
            if lease is not None:
                lease.release()
            raise
        finally:
            if image is not None:
                os.close(image)

    async def _put_together(
        self,
        spec: SandboxSpec,
        home: Path,
        kind: str,
        image: int | None,
        lease: UserLease | None,
        groups: SessionGroups | None,
        base: Path | None,
    ) -> NamespaceSandbox:
        order = self._order(spec, home, kind, lease, base)
        received = await self._opened(order.to_message(), [image] if image is not None else [])
        mounts, network, *directories = received
        skills = directories.pop() if spec.skills else -1
        kinds = self._tree.kinds if self._tree else frozenset()
        parts = SandboxParts(
            spec=spec,
            staged=_staged(spec, base),
            home=home,
            lease=lease,
            groups=groups,
            namespaces=(mounts, network),
            directories=tuple(directories),
            unenforced=self._unenforced(kind),
            memory_is_bounded="memory" in kinds,
            workspace_is_measured=kind != "folder",
            skills=skills,
        )
        sandbox = NamespaceSandbox(self._zygote, parts, self._present)
        try:
            await sandbox.warm()
        except BaseException:
            await sandbox.delete(keep_workspace=True)
            raise
        return sandbox

    async def _opened(self, order: dict[str, Any], descriptors: list[int]) -> list[int]:
        """The descriptors of a session. Cancelled, it waits for them all the same and lets them go: then nothing
        is left."""
        asking = asyncio.ensure_future(self._zygote.ask(order, descriptors))
        try:
            return (await asyncio.shield(asking))[1]
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            if not asking.cancelled() and asking.exception() is None:
                for descriptor in asking.result()[1]:
                    os.close(descriptor)
            raise

    def _order(
        self, spec: SandboxSpec, home: Path, kind: str, lease: UserLease | None, base: Path | None
    ) -> wire.OpenOrder:
        folder = None
        if kind == "folder":
            (home / _FOLDER).mkdir(mode=0o700, exist_ok=True)
            folder = wire.MountOrder(str(home.resolve()), _FOLDER)
        if spec.workspace is not None:
            folder = _mount_order(spec.workspace)
        return wire.OpenOrder(
            request=self._zygote.next_request(),
            key=spec.key,
            user=lease.user if lease else None,
            workspace=kind,
            folder=folder,
            disk_bytes=spec.limits.disk_bytes,
            inodes=spec.limits.inodes,
            temporary_bytes=spec.limits.temporary_bytes,
            writable_root=not spec.read_only_root,
            targets=tuple(mount.target for mount in spec.mounts),
            skills=skill_orders(spec.skills, spec.workspace),
            mounts=tuple(None if mount.mode is MountMode.NONE else _mount_order(mount) for mount in spec.mounts),
            read_only=tuple(mount.mode is not MountMode.READ_WRITE for mount in spec.mounts),
            workspace_read_only=_is_read_only(spec.workspace),
            base=wire.MountOrder(str(base.parent.resolve()), base.name) if base is not None else None,
            steering=spec.steering,
        )

    def _base(self, spec: SandboxSpec) -> Path | None:
        """The image that the sandbox starts from, where it is not to have this machine's system."""
        if not spec.image:
            return None
        if self._shelf is None:
            raise WrongState(f"the backend {NAME} has no images here; leave `spec.image` empty")
        root = self._shelf.root(spec.image)
        if os.statvfs(root).f_flag & os.ST_NOEXEC:
            raise WrongState(
                f"no program of an image can run: the file system of the box's data folder {self._paths.data} is "
                "mounted noexec; choose another folder with --data"
            )
        return root

    def _workspace_kind(self, spec: SandboxSpec) -> str:
        if spec.workspace is not None:
            return "host"
        if self._machine.loop_devices:
            return "image"
        # Memory is bounded by the kernel but is gone with the session's mounts: not for what must come back.
        return "folder" if spec.persistent else "memory"

    async def _image(self, home: Path, spec: SandboxSpec) -> int:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open_image, home, spec))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be stopped: what it opens is closed when it comes.
            opening.add_done_callback(lambda done: None if done.exception() else os.close(done.result()))
            raise

    def _open_image(self, home: Path, spec: SandboxSpec) -> int:
        limits = spec.limits
        return self._images.open(home / _IMAGE, size=limits.disk_bytes, inodes=limits.inodes, journal=spec.persistent)

    def _unenforced(self, kind: str) -> tuple[str, ...]:
        kinds = self._tree.kinds if self._tree else frozenset()
        missing = [] if "memory" in kinds else ["memory_bytes as a total (each process is bounded alone)"]
        if "cpu" not in kinds:
            missing.append("cpu_millis")
        if "pids" not in kinds:
            missing.append("pids for each session alone (processes are bounded for the user)")
        if kind in ("folder", "host"):
            missing.append("disk_bytes and the number of files (the workspace is a plain directory)")
        return tuple(missing)

    async def probe(self) -> BackendReport:
        """Makes a sandbox and tries to get out of it."""
        key = f"probe{secrets.token_hex(8)}"
        try:
            sandbox = await self._create(SandboxSpec(key, PROBE_LIMITS))
            try:
                probes = await self._measure(sandbox)
            finally:
                await sandbox.delete()
        except PortwayError as error:
            return BackendReport(NAME, False, error.message, self._machine.mode)
        self._not_contained = tuple(probe.name for probe in probes if not probe.contained)
        if self._not_contained:
            reason = _refusal(self._not_contained)
            return BackendReport(NAME, False, reason, self._machine.mode, sandbox.unenforced, probes)
        reason = f"works, {self._machine.mode} mode; {len(probes)} isolation probes contained"
        return BackendReport(NAME, True, reason, self._machine.mode, sandbox.unenforced, probes)

    async def discard(self, key: str) -> None:
        await asyncio.to_thread(remove_whole, self._paths.home(key))

    async def held(self, key: str) -> tuple[HeldThing, ...]:
        groups = self._tree.of_key(key) if self._tree else []
        return await asyncio.to_thread(held_by, self._paths.home(key), groups)

    async def cleanup(self, keep: frozenset[str]) -> int:
        """Ends and removes what an earlier life of this installation left behind."""
        return await asyncio.to_thread(self._sweep, keep)

    def _sweep(self, keep: frozenset[str]) -> int:
        swept = self._shelf.open() if self._shelf is not None else 0
        if self._tree is not None:
            groups, processes = self._tree.sweep(self._paths.data / "groups.json")
            swept += groups + processes
        sessions = self._paths.sessions
        for home in sessions.iterdir() if sessions.is_dir() else ():
            if home.name not in keep:
                remove_whole(home)
                swept += 1
        return swept

    async def close(self) -> None:
        await self._zygote.stop()
        if self._tree is not None:
            self._tree.close()


def _staged(spec: SandboxSpec, base: Path | None) -> StagedSession:
    common = (not spec.read_only_root, spec.mounts, _is_read_only(spec.workspace))
    if base is None:
        return StagedSession(*common)
    return StagedSession(*common, from_image=True, leader=OWN_LEADER if has_own_leader() else leader_in(base))


def _refusal(probes: tuple[str, ...]) -> str:
    return f"no sessions: measured inside a sandbox on this machine and not contained: {', '.join(probes)}"


def _is_read_only(workspace: HostMount | None) -> bool:
    return workspace is not None and workspace.mode is not MountMode.READ_WRITE


def _mount_order(mount: HostMount) -> wire.MountOrder:
    return wire.MountOrder(mount.root, os.path.relpath(mount.source, mount.root))


def _last_user(home: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((home / "user").read_text())
    return None
