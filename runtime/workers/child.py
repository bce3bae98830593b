"""What a new process does between the fork and becoming a plugin."""

import gc
import os
import resource
import signal
import sys
import traceback

from portway.runtime.sdk.worker.main import EXIT_UNUSABLE
from portway.runtime.sdk.worker.main import main as run_python_worker
from portway.runtime.workers import linux
from portway.runtime.workers.messages import Start

EXIT_NO_PROGRAM = 127
# Plugins go first when the machine runs out of memory, before the servers.
_OOM_SCORE = b"500"
_NICE = 5


def become_plugin(start: Start, parent: int, stdout: int, stderr: int) -> int:
    """Runs the plugin in this process and returns its exit code. Does not return for programs."""
    try:
        _join(start)
        _detach(start, parent, stdout, stderr)
        _limit(start)
        if not start.arguments:
            gc.enable()
            return run_python_worker(os.environ)
        return _execute(start)
    except SystemExit as wanted:
        return wanted.code if isinstance(wanted.code, int) else EXIT_UNUSABLE * bool(wanted.code)
    except BaseException:  # noqa: BLE001 - the outermost place of a fork: nothing may return into the fork server
        traceback.print_exc()
        return EXIT_NO_PROGRAM
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _join(start: Start) -> None:
    """First of all: what it uses from here on counts."""
    for entrance in start.groups:
        with open(entrance, "wb", buffering=0) as file:
            file.write(b"0")
    if not start.groups:
        # Without shares of its own, a plugin at least comes after the servers.
        os.nice(_NICE)


def _detach(start: Start, parent: int, stdout: int, stderr: int) -> None:
    os.setsid()
    linux.die_with_parent(parent, signal.SIGKILL)
    linux.set_name(f"pw:{start.name}")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.chdir(start.folder)
    os.environ.clear()
    os.environ.update(start.environment)


def _limit(start: Start) -> None:
    linux.forbid_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Memory that is written to counts, not what is only reserved: Go and Node reserve far more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (start.memory_bytes, start.memory_bytes))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = start.open_files if hard == resource.RLIM_INFINITY else min(start.open_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(_OOM_SCORE)


def _execute(start: Start) -> int:
    try:
        os.execvpe(start.arguments[0], list(start.arguments), dict(start.environment))
    except OSError as error:
        os.write(2, f"cannot execute {start.arguments[0]}: {error.strerror}\n".encode())
        return EXIT_NO_PROGRAM
