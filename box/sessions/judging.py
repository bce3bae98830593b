"""Judging the sources of mounts aside: a file system that does not answer holds up nobody but who asks for it."""

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

from portway.box.backends.types import HostMount
from portway.box.sessions.mounts import MountRules
from portway.box.sessions.types import SessionSpec
from portway.rpc.errors import LimitExceeded, PortwayError, Quota, Unavailable

_MOST_AT_ONCE = 16
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class JudgedMounts:
    """What a session is to see of the machine."""

    mounts: tuple[HostMount, ...] = ()
    workspace: HostMount | None = None


class MountJudge:
    """Threads of its own, which end with the process also where the kernel never gives them back."""

    def __init__(self, rules: MountRules, seconds: float = _SECONDS) -> None:
        self._rules = rules
        self._seconds = seconds
        self._under_way = 0

    async def judged(self, spec: SessionSpec) -> JudgedMounts:
        """Raises `InvalidInput` as the rules do, `Unavailable` where a source does not answer, `LimitExceeded`."""
        if not spec.extra_mounts and not spec.workspace_source:
            return JudgedMounts()
        if self._under_way >= _MOST_AT_ONCE:
            raise LimitExceeded(
                f"{_MOST_AT_ONCE} mounts are looked at already; a file system of the machine may not answer",
                retry_after=5.0,
                quota=Quota("box", f"{_MOST_AT_ONCE} mounts that are looked at"),
            )
        self._under_way += 1
        loop = asyncio.get_running_loop()
        told: asyncio.Future[JudgedMounts] = loop.create_future()
        told.add_done_callback(_look_at)

        def judge() -> None:
            answer: JudgedMounts | BaseException
            try:
                answer = JudgedMounts(self._rules.mounts(spec), self._rules.workspace(spec))
            except (PortwayError, OSError, ValueError) as error:
                answer = error
            with suppress(RuntimeError):  # the box has ended meanwhile
                loop.call_soon_threadsafe(self._tell, told, answer)

        threading.Thread(target=judge, name="box-mounts", daemon=True).start()
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(told)
        except TimeoutError:
            raise Unavailable(
                f"a directory to be mounted does not answer for {self._seconds:g} s; look at its file system, or leave "
                "the mount out",
                retry_after=self._seconds,
            ) from None

    def _tell(self, told: "asyncio.Future[JudgedMounts]", answer: JudgedMounts | BaseException) -> None:
        self._under_way -= 1
        if isinstance(answer, BaseException):
            told.set_exception(answer)
        else:
            told.set_result(answer)


def _look_at(told: "asyncio.Future[JudgedMounts]") -> None:
    """Who waited may have gone away: then nobody else looks at the error."""
    if not told.cancelled():
        told.exception()
