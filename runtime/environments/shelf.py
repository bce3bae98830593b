"""The environments on disk. One is there whole or not at all: it is made beside the others and then renamed."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.environments.types import Environment

_MAKING = ".making-"
_NOTE = "environment.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """An environment on disk: how large it is and when it was used last, in seconds since 1970."""

    environment: Environment
    size: int
    last_used: float


class Shelf:
    """One folder with an environment per digest. Everything here blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear_unfinished(self) -> None:
        """Removes what a runtime that was killed had begun. Only while nothing is being made."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for begun in self._folder.glob(f"{_MAKING}*"):
            shutil.rmtree(begun, ignore_errors=True)

    def find(self, digest: str) -> Environment | None:
        environment = Environment(self._folder / digest)
        try:
            os.utime(environment.folder / _NOTE)
        except OSError:
            return None
        return environment if environment.python.exists() else None

    def begin(self, digest: str) -> Path:
        """An empty folder to make an environment in."""
        begun = self._folder / f"{_MAKING}{digest}"
        shutil.rmtree(begun, ignore_errors=True)
        (begun / "tmp").mkdir(mode=0o700, parents=True)
        return begun

    def finish(self, digest: str, begun: Path, made: Path) -> Environment:
        """`made`, a folder in `begun`, becomes the environment."""
        note = {"bytes": size_of(made), "made": time.time()}
        (made / _NOTE).write_text(json.dumps(note) + "\n")
        # What is named must also be there after a power cut.
        os.sync()
        environment = Environment(self._folder / digest)
        # Something that is there all the same is none that `find` would take.
        shutil.rmtree(environment.folder, ignore_errors=True)
        made.rename(environment.folder)
        self.drop(begun)
        return environment

    def drop(self, begun: Path) -> None:
        shutil.rmtree(begun, ignore_errors=True)

    def kept(self) -> list[Kept]:
        """Those that are whole, the one used last first."""
        return sorted(self._kept(), key=lambda one: -one.last_used)

    def _kept(self) -> Iterator[Kept]:
        for folder in self._folder.iterdir():
            note = folder / _NOTE
            with suppress(OSError, ValueError, KeyError):
                yield Kept(Environment(folder), json.loads(note.read_text())["bytes"], note.stat().st_mtime)

    def reap(self, used: Set[str], keep: int, keep_bytes: int) -> list[Environment]:
        """Removes what no digest in `used` names: all but the `keep` used last, and of these what is over the size."""
        removed: list[Environment] = []
        count = size = 0
        for one in self.kept():
            if one.environment.folder.name in used:
                continue
            count, size = count + 1, size + one.size
            if count > keep or size > keep_bytes:
                # It is renamed first, so that nobody finds one that is half removed.
                leaving = self._folder / f"{_MAKING}gone-{one.environment.folder.name}"
                one.environment.folder.rename(leaving)
                shutil.rmtree(leaving, ignore_errors=True)
                removed.append(one.environment)
        return removed


def size_of(folder: Path) -> int:
    """Bytes on disk below a folder; what vanishes meanwhile does not count."""
    total = 0
    for directory, _names, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total
