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

    @property
    def is_there(self) -> bool:
        return self._directory >= 0

    def files(self) -> list[FileMount]:
        return skill_files(self._shown, self._directory)

    def arguments(self) -> list[str]:
        """What has bubblewrap show them, over the covered folder of the workspace."""
        return ["--bind", STAGED.of_set(self._number), SKILLS] if self.is_there else []

    async def change(self, skills: tuple[SkillMount, ...]) -> None:
        """Raises `LimitExceeded` where a writable copy does not fit; then nothing has changed."""
        number = self._number + 1
        order = wire.SkillsOrder(self._zygote.next_request(), number, self._user, skill_orders(skills, self._workspace))
        try:
            _answer, (directory,) = await self._zygote.ask(order.to_message(), [self._mounts])
        except LimitExceeded:
            raise LimitExceeded(NO_ROOM) from None
        self.close()
        self._directory, self._shown, self._number = directory, skills, number

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
