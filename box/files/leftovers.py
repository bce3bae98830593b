"""What uploads leave in a persistent workspace when the box is killed amid them, found and removed."""

import contextlib
import os
import re
from pathlib import PurePosixPath

from portway.box.backends.types import FileAccess
from portway.box.files.operations import empty_directory
from portway.rpc.errors import PortwayError

_MOST_LOOKED_AT = 200_000
_NAME = re.compile(r"\.upload-[0-9a-f]{16}\.part")


def remove_unfinished(access: FileAccess) -> int:
    """Blocking; as the session's user, before anything runs in it. Returns how many were removed.

    Looks at so many names and no more: what lies beyond stays, as a hidden directory of that user.
    """
    root = access.mounts[0].open()
    removed = seen = 0
    try:
        for path, directories, files, place in os.fwalk(".", dir_fd=root):
            seen += len(directories) + len(files)
            for name in [name for name in directories if _NAME.fullmatch(name)]:
                directories.remove(name)
                # What the session's own user did to it may hold this up: then it stays, as that user's.
                with contextlib.suppress(OSError, PortwayError):
                    empty_directory(place, name)
                    os.rmdir(name, dir_fd=place)
                    removed += 1
            if seen > _MOST_LOOKED_AT or len(PurePosixPath(path).parts) > 64:
                break
    finally:
        os.close(root)
    return removed
