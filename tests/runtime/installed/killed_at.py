"""The plugin runtime in a process that kills itself with SIGKILL before its Nth step on the disk of installed plugins.

`python -m tests.runtime.installed.killed_at FOLDER ARM N RUNTIME-ARGUMENTS…`: steps are counted once the file ARM is
there. A step is what Python tells its audit hooks of: files opened to be written, renamed, removed, folders made.
"""

import os
import signal
import sys
from itertools import count

from portway.runtime.__main__ import main

_STEPS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _kill_before(folder: str, arm: str, number: int) -> None:
    steps = count(1)

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _STEPS or not str(arguments[0]).startswith(folder):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        if os.path.exists(arm) and next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


if __name__ == "__main__":
    _kill_before(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
