"""What this process holds, for tests that nothing is left behind."""

import gc
import os
from pathlib import Path


def descriptors(pid: int | None = None) -> int:
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid or os.getpid()}/fd"))


def resident(pid: int | None = None) -> int:
    """Bytes in memory."""
    gc.collect()
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
