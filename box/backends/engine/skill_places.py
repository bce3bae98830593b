"""Skills shown in a container: put together where only the box enters, then put over the workspace's folder.

Runs in the process that places mounts, inside. All commands of a session share one view: a set takes the place of the
one before in one step, and who had entered that goes on seeing it whole.
"""

import errno
import os

from portway.box.backends.engine.keeper import FOLDER as STAGE
from portway.box.backends.namespace.skill_mounts import SkillPlaces, show_skills
from portway.box.backends.namespace.wire import SkillsOrder
from portway.box.backends.types import SKILLS, WORKSPACE
from portway.box.isolation import mount_objects, syscalls

_PLACES = SkillPlaces(WORKSPACE, STAGE)
_STAGE_OPTIONS = {"size": "1m", "nr_inodes": "1k", "mode": "0700"}
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def show_in_container(order: SkillsOrder, clones: list[int], *, strict: bool) -> int:
    """Shows a set of skills, and returns it, open. Raises `OSError`."""
    if not os.path.ismount(STAGE):
        attributes = mount_objects.NOSUID | mount_objects.NODEV
        stage = os.open(STAGE, _DIRECTORY)
        mount_objects.put(mount_objects.new_disk("tmpfs", "skills", _STAGE_OPTIONS, attributes), stage)
        _lay_open()
    shown = show_skills(order, clones, _PLACES, strict=strict)
    before = os.open(SKILLS, _DIRECTORY)
    if order.number == 0:
        # Over the empty mount that covers the folder, which stays.
        syscalls.move_mount(shown, before)
        return shown
    aside = os.open(_PLACES.of_set(order.number - 1), _DIRECTORY)
    try:
        # Beneath the one before, which then goes: nobody finds the folder empty.
        mount_objects.put(shown, before, beneath=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Before Linux 6.5: for a moment it is.
        mount_objects.put(before, aside)
        mount_objects.put(shown, os.open(SKILLS, _DIRECTORY))
    else:
        mount_objects.put(before, aside)
    return shown


def _lay_open() -> None:
    """The workspace for this side: without what is mounted in it, and writable also where the session may only read."""
    os.mkdir(_PLACES.plain, 0o700)
    attributes = mount_objects.NOSUID | mount_objects.NODEV
    plain = mount_objects.copy_of(os.open(WORKSPACE, _DIRECTORY), attributes, cleared=mount_objects.READ_ONLY)
    mount_objects.put(plain, os.open(_PLACES.plain, _DIRECTORY))
