"""The skills of a session of this backend: what is shown now, how files reach it, and how it is changed."""

import os

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.skill_mounts import STAGED
from portway.box.backends.namespace.zygote_client import ZygoteClient
from portway.box.backends.types import SKILLS, FileMount, HostMount, MountMode, SkillMount
from portway.rpc.errors import LimitExceeded

NO_ROOM = "a writable copy of a skill does not fit: the session's disk is full; remove files"


def skill_orders(skills: tuple[SkillMount, ...], workspace: HostMount | None) -> tuple[wire.SkillOrder, ...]:
    """In a workspace of the machine's that is only to be read, no copies are made."""
    may_copy = workspace is None or workspace.mode is MountMode.READ_WRITE
    return tuple(
        wire.SkillOrder(
            one.name, one.digest, one.root, os.path.relpath(one.source, one.root), one.writable and may_copy
        )
        for one in skills
    )


def skill_files(shown: tuple[SkillMount, ...], directory: int) -> list[FileMount]:
    """How files of skills are reached; `directory` is what shows them, -1 where nothing does."""
    if directory < 0:
        return []
    # Where there was no room for a copy, the kernel says that it is read-only.
    each = [FileMount(f"{SKILLS}/{skill.name}", directory, skill.writable, skill.name) for skill in shown]
    return [FileMount(SKILLS, directory, False), *each]


class SessionSkills:
    """Owns the descriptor of what is mounted; `directory` is -1 where the session shows no skills."""

    def __init__(
        self,
        zygote: ZygoteClient,
        mounts: int,
        user: int | None,
        shown: tuple[SkillMount, ...],
        workspace: HostMount | None,
        directory: int,
    ) -> None:
        self._zygote = zygote
        self._mounts = mounts
        self._user = user
        self._shown = shown
        self._workspace = workspace
        self._directory = directory
        self._number = 0
        self._mounted = {0} if directory >= 0 else set()
        # By launcher: a command that takes long to begin finds the set that it was told of, however many came since.
        self._told: dict[int, int] = {}

    @property
    def is_there(self) -> bool:
        return self._directory >= 0

    def files(self) -> list[FileMount]:
        return skill_files(self._shown, self._directory)

    def arguments(self, pid: int) -> list[str]:
        """What has bubblewrap show them to that launcher, over the covered folder of the workspace."""
        if not self.is_there:
            return []
        self._told[pid] = self._number
        return ["--bind", STAGED.of_set(self._number), SKILLS]

    def forget(self, pid: int) -> None:
        """The launcher, or what it became, has ended."""
        self._told.pop(pid, None)

    async def change(self, skills: tuple[SkillMount, ...]) -> None:
        """Raises `LimitExceeded` where a writable copy does not fit; then nothing has changed."""
        number = self._number + 1
        done_with = tuple(self._mounted - {self._number, *self._told.values()})
        orders = skill_orders(skills, self._workspace)
        order = wire.SkillsOrder(self._zygote.next_request(), number, self._user, orders, done_with)
        try:
            _answer, (directory,) = await self._zygote.ask(order.to_message(), [self._mounts])
        except LimitExceeded:
            raise LimitExceeded(NO_ROOM) from None
        self.close()
        self._directory, self._shown, self._number = directory, skills, number
        self._mounted = (self._mounted - set(done_with)) | {number}

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
