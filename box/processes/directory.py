"""The managed processes of all sessions: started, found, stopped, forgotten an hour after their end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial

from portway.box.backends.interface import RunningCommand
from portway.box.processes.command import to_spec
from portway.box.processes.managed import ManagedProcess
from portway.box.processes.records import ProcessRecords
from portway.box.processes.types import CommandRequest, Process, RestartPolicy
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.live import PROCESS
from portway.box.sessions.types import SessionRef
from portway.box.tasks import TaskOwner
from portway.rpc.errors import Conflict, LimitExceeded, NotFound, PortwayError, Quota

KEPT_SECONDS = 3600.0
MOST_IN_SESSION = 64


class ProcessDirectory:
    """Rules over managed processes."""

    def __init__(self, sessions: SessionDirectory, records: ProcessRecords) -> None:
        self._sessions = sessions
        self._records = records
        self._processes: dict[SessionRef, dict[str, ManagedProcess]] = {}
        self._tasks = TaskOwner("managed processes")

    async def start(
        self,
        ref: SessionRef,
        process_id: str,
        command: CommandRequest,
        policy: RestartPolicy,
        *,
        hold_output: bool = False,
    ) -> tuple[Process, bool]:
        """The process, running, and whether it was there before."""
        self._sessions.require_open()
        session = self._sessions.get(ref)
        known = self._of(ref).get(process_id)
        if known is not None:
            if (known.command, known.policy) != (command, policy):
                raise Conflict(f"process id {process_id!r} stands for another command in this session")
            await asyncio.shield(known.started)
            return known.describe(), True
        # What cannot be executed is refused before anything is kept.
        to_spec(command, session.spec, wants_input=True)
        self._require_room(ref)
        process = ManagedProcess(
            process_id, ref, command, policy, partial(self._run, ref, command), hold_output=hold_output
        )
        self._of(ref)[process_id] = process
        self._keep(process)
        self._tasks.start(self._live(process, process.run()))
        try:
            await asyncio.shield(process.started)
        except PortwayError:
            self._of(ref).pop(process_id, None)
            self._keep(process)
            raise
        return process.describe(), False

    def restore(self) -> None:
        """Takes up what ran in persistent sessions when the box ended: it is lost, or its policy starts it again."""
        for ref in self._sessions.persistent():
            for record in self._records.load(ref):
                process = ManagedProcess.lost(ref, record, partial(self._run, ref, record.command))
                self._of(ref)[record.process_id] = process
                if record.policy is not RestartPolicy.NEVER:
                    self._tasks.start(self._live(process, process.run_again()))

    async def _live(self, process: ManagedProcess, life: Awaitable[None]) -> None:
        await life
        # Its end was seen. Where the box ends first, nobody comes here and the record tells.
        if not process.abandoned:
            self._keep(process)

    def _keep(self, process: ManagedProcess) -> None:
        if self._sessions.get(process.session).spec.persistent:
            alive = [one.record for one in self._of(process.session).values() if one.alive]
            self._records.save(process.session, alive)

    @asynccontextmanager
    async def _run(self, ref: SessionRef, command: CommandRequest) -> AsyncIterator[RunningCommand]:
        async with self._sessions.get(ref).using(PROCESS) as session:
            running = await session.start(to_spec(command, session.spec, wants_input=True))
            try:
                yield running
            finally:
                await running.close()

    def _of(self, ref: SessionRef) -> dict[str, ManagedProcess]:
        return self._processes.setdefault(ref, {})

    def _require_room(self, ref: SessionRef) -> None:
        own = self._of(ref)
        ended = sorted((one for one in own.values() if not one.alive), key=lambda one: one.end_time or 0.0)
        while ended and len(own) >= MOST_IN_SESSION:
            own.pop(ended.pop(0).process_id)
        if len(own) >= MOST_IN_SESSION:
            raise LimitExceeded(
                f"session {ref.session_id!r} already has {MOST_IN_SESSION} processes; stop some",
                quota=Quota(f"session:{ref.session_id}", f"{MOST_IN_SESSION} processes"),
            )

    def get(self, ref: SessionRef, process_id: str) -> ManagedProcess:
        process = self._processes.get(ref, {}).get(process_id)
        if process is None:
            raise NotFound.of("process", process_id)
        return process

    def list(self, ref: SessionRef) -> list[Process]:
        """By id."""
        self._sessions.get(ref)
        return [process.describe() for _id, process in sorted(self._processes.get(ref, {}).items())]

    async def stop(self, ref: SessionRef, process_id: str, grace: float) -> Process:
        process = self.get(ref, process_id)
        # Shielded: a stop that began goes on when its caller goes away.
        await asyncio.shield(self._tasks.start(process.stop(grace)))
        return process.describe()

    def forget_session(self, ref: SessionRef) -> None:
        """The session is gone, and its processes with it."""
        for process in self._processes.pop(ref, {}).values():
            process.abandon()

    def forget_old(self, now: float) -> None:
        for own in self._processes.values():
            for process in [one for one in own.values() if one.end_time and now - one.end_time > KEPT_SECONDS]:
                del own[process.process_id]

    async def forget_forever(self) -> None:
        while True:
            await asyncio.sleep(60)
            self.forget_old(time.time())

    async def close(self) -> None:
        for ref in list(self._processes):
            self.forget_session(ref)
        await self._tasks.close()
