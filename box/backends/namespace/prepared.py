"""Sandboxes put up ahead of need: a shell inside waits for the few words that say what it becomes.

Setting a sandbox up takes several milliseconds, telling it what to execute a fraction of one. Each serves one command.
What the shell cannot be told exactly is not run this way (see `script_for`).
"""

import asyncio
import contextlib
import os
import re
import shlex
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from portway.box.backends.namespace.arguments import command_line
from portway.box.backends.namespace.lanes import Launcher
from portway.box.backends.namespace.running import CommandPipes
from portway.box.backends.namespace.zygote_client import Ended
from portway.box.backends.types import CommandSpec
from portway.box.isolation.cgroups import Counted
from portway.box.tasks import TaskOwner
from portway.rpc.errors import Unavailable

MOST_PREPARED = 8
# Each is bubblewrap, its init and the shell.
PROCESSES_EACH = 3
SCRIPT_FD = 7
WAIT_FOR_SCRIPT = ["/bin/sh", "-c", f". /dev/fd/{SCRIPT_FD}"]
READY_FD = 8
# The shell of an image says first that it is there: whether an image has one that works is not known before.
SAY_READY = ["/bin/sh", "-c", f"echo >&{READY_FD}; exec {READY_FD}>&-; . /dev/fd/{SCRIPT_FD}"]
READY_SECONDS = 10.0
# Fits into a pipe at once.
MAX_SCRIPT_BYTES = 48 * 1024

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables that a shell keeps for itself, or acts upon.
_SHELLS_OWN = frozenset(
    """_ BASHOPTS CDPATH ENV EUID FUNCNAME GROUPS HISTCMD IFS LINENO MAIL MAILPATH OLDPWD OPTARG OPTERR OPTIND PPID
    PS1 PS2 PS3 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL UID""".split()
)


class NoShell(Unavailable):
    """The image has no shell that works. Its programs can be run all the same."""


def script_for(command: CommandSpec, env: Mapping[str, str], directory: str, leader: tuple[str, ...]) -> bytes | None:
    """What makes a shell that waits with `env` in `directory` this command; `None` where it would not be exact."""
    wanted = dict(command.env)
    changed = {name: value for name, value in wanted.items() if env.get(name) != value}
    removed = env.keys() - wanted.keys()
    unclear = [name for name in changed if name in _SHELLS_OWN or not _PLAIN_NAME.fullmatch(name)]
    if unclear or removed or command.argv[0].startswith("-"):
        return None
    lines = []
    if command.directory != directory:
        lines.append(f"cd {shlex.quote(command.directory)} || exit 126; unset OLDPWD")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in changed.items()]
    lines.append(f"exec {shlex.join(command_line(command, leader))} {SCRIPT_FD}<&-")
    # In braces: a shell runs nothing of a group whose end it has not read, so a script that was cut short is an error.
    script = os.fsencode("\n".join(("{", *lines, "}\n")))
    return script if len(script) <= MAX_SCRIPT_BYTES else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sandbox that waits. `script` is the descriptor to write to, `finished` its end, which can be told exactly."""

    launcher: Launcher
    pipes: CommandPipes
    script: int
    finished: "asyncio.Task[tuple[Ended, Counted]]"

    def become(self, script: bytes) -> None:
        """Raises `Unavailable` where it ended meanwhile, or its pipe takes only a part: nothing runs then."""
        try:
            self.launcher.count_from_here()
            taken = os.write(self.script, script)
        except OSError as error:
            raise Unavailable(f"the sandbox did not take the command: {error.strerror}", retry_after=0.2) from None
        finally:
            os.close(self.script)
        if taken < len(script):
            # The kernel makes pipes small for a user who has many: with a plain user's box, all sessions are that user.
            raise Unavailable("the sandbox did not take all of the command", retry_after=0.2)

    def dismiss(self) -> None:
        """The shell reads the end of its script, and ends."""
        os.close(self.script)
        self.pipes.close()


class PreparedPool:
    """Keeps as many sandboxes waiting as commands ran lately, at least one."""

    def __init__(self, prepare: Callable[[], Awaitable[Prepared]]) -> None:
        self._prepare = prepare
        self._waiting: deque[Prepared] = deque()
        self._making = 0
        self._closed = False
        # Those that were begun before `renew` show the session as it was.
        self.age = 0
        self._tasks = TaskOwner("sandboxes ahead of need")

    async def fill(self) -> None:
        """The first one, so that the first command finds it."""
        self._waiting.append(await self._prepare())

    def take(self) -> Prepared | None:
        """One that waits, if there is one."""
        while self._waiting:
            prepared = self._waiting.popleft()
            if not prepared.finished.done():
                return prepared
            prepared.dismiss()
        return None

    def refill(self, running: int) -> None:
        """Puts the next one up while `running` commands run."""
        if not self._closed and len(self._waiting) + self._making < min(MOST_PREPARED, max(1, running)):
            self._making += 1
            self._tasks.start(self._add())

    async def _add(self) -> None:
        try:
            # Without one ahead of need the next command gets its own, and tells what is wrong.
            with contextlib.suppress(Unavailable, OSError):
                age = self.age
                prepared = await self._prepare()
                if self._closed or age != self.age:
                    prepared.dismiss()
                else:
                    self._waiting.append(prepared)
        finally:
            self._making -= 1

    def renew(self) -> None:
        """Lets go of those that wait: the next ones see the session as it is then."""
        self.age += 1
        while self._waiting:
            self._waiting.popleft().dismiss()

    async def close(self) -> None:
        self._closed = True
        await self._tasks.close(cancel=False)
        while self._waiting:
            self._waiting.popleft().dismiss()
