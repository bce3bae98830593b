"""Commands that linger, of all sessions: begun, found by their request id, forgotten some time after their end."""

import asyncio
from dataclasses import dataclass

from portway.box.processes.effects import digest_of, never_begun, of_another
from portway.box.processes.lingering.command import Lingering, LingeringCommand
from portway.box.processes.run import CommandRunner, RunRequest
from portway.box.processes.types import CommandResult
from portway.box.sessions.types import SessionRef
from portway.box.tasks import TaskOwner
from portway.rpc.errors import LimitExceeded, PortwayError, Quota
from portway.rpc.identity import Role

MOST_LINGERING = 256
LARGE_WINDOW, SMALL_WINDOW = 1024 * 1024, 128 * 1024
# So many keep the large window each; together they stay within some 64 MiB, and all the rest within as much again.
_MOST_LARGE = 32


@dataclass(frozen=True, slots=True)
class _Entry:
    command: LingeringCommand
    digest: str
    role: Role | None
    life: "asyncio.Task[None]"


class LingeringCommands:
    """Rules over commands that linger."""

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner
        self._entries: dict[tuple[SessionRef, str], _Entry] = {}
        self._tasks = TaskOwner("commands that linger")

    async def start(self, request: RunRequest, seconds: float, *, holds: bool) -> LingeringCommand | CommandResult:
        """Begins a command, or finds the one that was begun under this id; the result where it ran long ago."""
        key, digest = (request.ref, request.request_id), digest_of(request.command, b"")
        entry = self._entries.get(key)
        if entry is None:
            self._runner.require_own(request.ref, request.request_id, request.role)
            entry = self._begin(key, request, digest, seconds, holds=holds)
        elif entry.digest != digest or entry.role is not request.role:
            raise of_another(request.request_id)
        try:
            known = await asyncio.shield(entry.command.started)
        except PortwayError:
            self._forget(key, entry)
            raise
        return entry.command if known is None else known

    def _begin(
        self, key: tuple[SessionRef, str], request: RunRequest, digest: str, seconds: float, *, holds: bool
    ) -> _Entry:
        self._require_room()
        window = LARGE_WINDOW if len(self._entries) < _MOST_LARGE else SMALL_WINDOW
        command = LingeringCommand(request, Lingering(seconds, window, holds))
        entry = self._entries[key] = _Entry(
            command, digest, request.role, self._tasks.start(command.live(self._runner))
        )
        self._tasks.start(self._forget_later(key, entry, seconds))
        return entry

    def _require_room(self) -> None:
        # What ended gives way; its exit is still known by its request id.
        for key, entry in list(self._entries.items()):
            if len(self._entries) < MOST_LINGERING:
                return
            if entry.command.over:
                del self._entries[key]
        if len(self._entries) >= MOST_LINGERING:
            raise LimitExceeded(
                f"{MOST_LINGERING} commands may outlive their stream already; leave `linger` out, or retry later",
                retry_after=5.0,
                quota=Quota("box", f"{MOST_LINGERING} commands that linger"),
            )

    async def _forget_later(self, key: tuple[SessionRef, str], entry: _Entry, seconds: float) -> None:
        await asyncio.wait([entry.life])
        if entry.command.begun:
            # For the caller that was away when it ended.
            await asyncio.sleep(seconds)
        self._forget(key, entry)

    def _forget(self, key: tuple[SessionRef, str], entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]

    def find(self, ref: SessionRef, request_id: str, role: Role) -> LingeringCommand | CommandResult:
        """What was begun under this id, by the same role; its result where it ended long ago.

        Raises `WrongState` with reason EFFECT_UNKNOWN where nothing is known of it.
        """
        entry = self._entries.get((ref, request_id))
        if entry is not None and entry.role is not role:
            raise never_begun(request_id)
        if entry is not None and entry.command.begun:
            return entry.command
        return self._runner.result_of(ref, request_id, role)

    def forget_session(self, ref: SessionRef) -> None:
        """The session is gone, and its commands with it."""
        for key in [key for key in self._entries if key[0] == ref]:
            del self._entries[key]

    async def close(self) -> None:
        self._entries.clear()
        await self._tasks.close()
