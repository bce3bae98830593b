"""What the kernel's refusals mean to a caller."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from portway.box.files.types import shown
from portway.rpc.errors import (
    FieldViolation,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    PortwayError,
    Resource,
    WrongState,
)

_LEAVES = "leads out of the session's mount or over a link that does"
_MEANINGS: dict[int, tuple[type[PortwayError], str]] = {
    errno.ENOENT: (NotFound, "does not exist"),
    errno.EXDEV: (NotPermitted, _LEAVES),
    errno.ELOOP: (NotPermitted, "goes over a link that is not followed"),
    errno.EACCES: (NotPermitted, "is not open to the session's user"),
    errno.EPERM: (NotPermitted, "is not open to the session's user"),
    errno.EROFS: (NotPermitted, "is read-only"),
    errno.EISDIR: (WrongState, "is a directory"),
    errno.ENOTDIR: (WrongState, "goes through something that is no directory"),
    errno.ENOTEMPTY: (WrongState, "is a directory that is not empty; ask for `recursive`"),
    errno.EEXIST: (WrongState, "exists already"),
    errno.ETXTBSY: (WrongState, "is being executed"),
    errno.ENXIO: (WrongState, "is a pipe or device, not a file"),
    errno.ENOSPC: (LimitExceeded, "does not fit: the session's disk is full; remove files"),
    errno.EDQUOT: (LimitExceeded, "does not fit: the session's quota is used up; remove files"),
    errno.EFBIG: (LimitExceeded, "is larger than a file may be"),
    errno.EMFILE: (LimitExceeded, "cannot be opened: too many files are open; retry"),
    errno.ENFILE: (LimitExceeded, "cannot be opened: too many files are open; retry"),
    errno.ENAMETOOLONG: (InvalidInput, "has a name that is too long"),
    errno.EINVAL: (InvalidInput, "is not a path that the file system takes"),
    errno.EILSEQ: (InvalidInput, "is not a path that the file system takes"),
}


def meaning_of(number: int, path: str) -> PortwayError:
    path = shown(path)
    meaning, text = _MEANINGS.get(number, (WrongState, f"cannot be used (error {errno.errorcode.get(number, number)})"))
    resource = Resource("file", path) if meaning is NotFound else None
    fields = [FieldViolation("path", text)] if meaning is InvalidInput else []
    return meaning(f"{path} {text}", resource=resource, fields=fields)


@contextmanager
def told_about(path: str) -> Iterator[None]:
    """Turns what the kernel refuses inside the block into an error by meaning."""
    try:
        yield
    except OSError as error:
        raise meaning_of(error.errno or 0, path) from None
