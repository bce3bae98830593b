"""The skills that a container shows: put there by a box that is root; nobody else could hold them in their place."""

import asyncio
import os

from portway.box.backends.engine.placing import show
from portway.box.backends.namespace.session_skills import skill_files, skill_orders
from portway.box.backends.namespace.wire import SkillsOrder
from portway.box.backends.types import FileMount, SandboxSpec, SkillMount
from portway.box.tasks import to_its_end
from portway.rpc.errors import WrongState

NO_SKILLS = (
    "a plain user's box cannot show skills in containers: leave `skills` empty, run the box as root, or use the "
    "namespace backend"
)


def first_skills(spec: SandboxSpec, user: int) -> SkillsOrder | None:
    return SkillsOrder(0, 0, user, skill_orders(spec.skills, spec.workspace)) if spec.skills else None


# Sets of skills that remain for who has gone into one.
_KEPT = 8


class ContainerSkills:
    """Owns a descriptor of the container's mount namespace, and of what shows the skills, -1 where nothing does."""

    def __init__(self, spec: SandboxSpec, user: int, namespace: int, directory: int) -> None:
        self._spec = spec
        self._user = user
        self._namespace = namespace
        self._directory = directory
        self._shown = spec.skills
        self._number = 0

    @property
    def are_there(self) -> bool:
        return self._directory >= 0

    def files(self) -> list[FileMount]:
        return skill_files(self._shown, self._directory)

    async def change(self, skills: tuple[SkillMount, ...]) -> None:
        """Raises `LimitExceeded` where a writable copy does not fit; then nothing has changed."""
        if self._namespace < 0:
            if skills:
                raise WrongState(NO_SKILLS)
            return
        number = self._number + 1 if self.are_there else 0
        done_with = (number - _KEPT,) if number >= _KEPT else ()
        order = SkillsOrder(0, number, self._user, skill_orders(skills, self._spec.workspace), done_with)
        shown = await to_its_end(asyncio.to_thread(show, order, self._namespace))
        before, self._directory = self._directory, shown
        self._shown, self._number = skills, number
        if before >= 0:
            os.close(before)

    def close(self) -> None:
        for descriptor in (self._directory, self._namespace):
            if descriptor >= 0:
                os.close(descriptor)
        self._directory = self._namespace = -1
