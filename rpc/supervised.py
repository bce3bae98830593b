"""A server that `portway up` started ends with it."""

import ctypes
import os
import signal
from collections.abc import Mapping

SUPERVISOR_VARIABLE = "PORTWAY_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


def follow_supervisor(environment: Mapping[str, str]) -> None:
    """Have the kernel send SIGTERM when the supervisor dies, however it dies. Does nothing without a supervisor.

    The signal is asked for first and the parent looked at afterwards: a supervisor that died in between is noticed.
    """
    supervisor = environment.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(supervisor):
        os.kill(os.getpid(), signal.SIGTERM)
