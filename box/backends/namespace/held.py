"""What the machine itself still has of a session: asked of the kernel and the disk, so that a leak shows."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from portway.box.backends.types import HeldThing

_LOOPS = Path("/sys/block")


def held_by(home: Path, groups: Sequence[Path]) -> tuple[HeldThing, ...]:
    """`home` is the session's directory on disk, `groups` its control groups."""
    return tuple(sorted([*_groups(groups), *_loops(home), *_files(home)]))


def _groups(groups: Sequence[Path]) -> Iterator[HeldThing]:
    for group in groups:
        with contextlib.suppress(OSError):
            members = [line for file in group.rglob("cgroup.procs") for line in file.read_text().split()]
            yield HeldThing("control_group", _name_of(group), f"{len(members)} processes", group.stat().st_mtime)


def _name_of(group: Path) -> str:
    """Without what is above the box's own group: that is the machine's business.

    Hierarchies of version 1 each have a group of the same name; the first part of its path tells them apart.
    """
    hierarchy, own = group.parts[4], group.parts[-2:]
    return "/".join(own if hierarchy == own[0] else (hierarchy, *own))


def _loops(home: Path) -> Iterator[HeldThing]:
    for backing in _LOOPS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            # A removed file has ` (deleted)` behind its name.
            if Path(backing.read_text().strip().removesuffix(" (deleted)")).is_relative_to(home):
                yield HeldThing("loop_device", backing.parent.parent.name, "holds the workspace")


def _files(home: Path) -> Iterator[HeldThing]:
    with contextlib.suppress(OSError):
        held = sum(entry.stat().st_blocks * 512 for entry in home.iterdir() if entry.is_file())
        yield HeldThing("workspace", home.name, f"{held} bytes on disk, not counting folders", home.stat().st_mtime)
