"""Where the database lies: a URL turned into a file, and a folder made ready for it."""

import errno
import os
import tempfile
from pathlib import Path

from portway.rpc.errors import InvalidInput, Reason, WrongState

_SCHEME = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")


def is_postgres(url: str) -> bool:
    """A server, not a file."""
    return url.startswith(_POSTGRES)


def database_path(url: str) -> Path:
    """The file behind `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises InvalidInput for any other URL.
    """
    if not url.startswith(_SCHEME) or "?" in url or ":memory:" in url or len(url) == len(_SCHEME):
        raise InvalidInput(
            # Not what was given: it may hold a password.
            "The database URL is neither of the form `sqlite:///path/to/portway.db` (four slashes: an absolute path) "
            "nor of the form `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.",
            reason=Reason.NOT_CONFIGURED,
        )
    return Path(url[len(_SCHEME) :]).expanduser().absolute()


def prepare_folder(folder: Path) -> None:
    """Make the folder, readable by this user alone, and prove that files can be made in it.

    Raises WrongState that says what is wrong with it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Permissions, read-only mounts, quotas, a full disk: nothing but writing tells.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            probe.write(b"portway")
            probe.flush()
    except OSError as error:
        raise WrongState(_what_to_do(folder, error), reason=Reason.NOT_CONFIGURED) from error


def _what_to_do(folder: Path, error: OSError) -> str:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"The data folder {folder} is read-only for this user ({error.strerror}). Give it to the user that runs "
            "Portway, or choose another folder."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk that holds the data folder {folder} is full. Free space there, or choose another folder."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return (
            f"The data folder {folder} cannot be made because a file of that name, or of a part of it, is in the way."
        )
    return f"The data folder {folder} cannot be used ({error.strerror}). Choose another folder."


def make_private(path: Path) -> None:
    """Make the file, or take it from other users. SQLite gives the files that it puts beside it the same mode.

    Raises WrongState when this user may not write it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WrongState(
            f"The database file {path} cannot be written ({error.strerror}). It must belong to the user "
            "that runs Portway.",
            reason=Reason.NOT_CONFIGURED,
        ) from error


def sync_folder(folder: Path) -> None:
    """Make new names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
