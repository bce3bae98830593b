"""What every image gets at the end, whatever its content: places for mounts, files of /etc, a digest."""

import hashlib
import os
import stat
import struct

from portway.box.images.unpack.terms import Measured, Refused
from portway.box.images.unpack.tree import DIRECTORY_MODE, remove_all
from portway.box.isolation.syscalls import RESOLVE_NO_SYMLINKS, open_beneath

# A session's own; an image has them empty, as real directories, so that nothing in it decides where a mount goes.
MOUNT_POINTS = ("dev", "proc", "run", "tmp", "workspace")
_BLOCK = 4096
_MOST_USERS = 64 * 1024
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/workspace:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
)
_GROUP = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"
_ETC = {"hosts": "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n", "hostname": "sandbox\n", "resolv.conf": ""}
_LOOKED_AT = ("bin", "usr/bin", "sbin", "usr/sbin", "usr/local/bin", "")
_MOST_LOOKED_AT = 200
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64", 22: "s390x"}


def furnish(root: int) -> None:
    """Makes what a session mounts upon, in place of whatever the image has there."""
    for name in MOUNT_POINTS:
        _remove(root, name)
        os.mkdir(name, DIRECTORY_MODE, dir_fd=root)
    etc = _directory(root, "etc")
    try:
        users = {name: _lines(etc, name) for name in ("passwd", "group")}
        for name, text in {
            "passwd": _merged(_PASSWD, users["passwd"], 7),
            "group": _merged(_GROUP, users["group"], 4),
            **_ETC,
        }.items():
            _remove(etc, name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, 0o644, dir_fd=etc), "wb") as file:
                file.write(text.encode("latin-1"))
    finally:
        os.close(etc)
    var = _directory(root, "var")
    try:
        # The session's /tmp is the one place for what is not kept.
        _remove(var, "tmp")
        os.symlink("/tmp", "tmp", dir_fd=var)
    finally:
        os.close(var)


def _remove(parent: int, name: str) -> None:
    try:
        remove_all(parent, name)
    except FileNotFoundError:
        return


def _directory(root: int, name: str) -> int:
    """An open directory at the top, made in place of what is none."""
    try:
        return _open_directory(root, name)
    except FileNotFoundError:
        pass
    except (NotADirectoryError, OSError):
        _remove(root, name)
    os.mkdir(name, DIRECTORY_MODE, dir_fd=root)
    return _open_directory(root, name)


def _open_directory(root: int, name: str) -> int:
    return open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)


def _lines(etc: int, name: str) -> list[str]:
    try:
        opened = open_beneath(etc, name, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_NO_SYMLINKS)
    except OSError:
        return []
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return []
        return file.read(_MOST_USERS).decode("latin-1").split("\n")


def _merged(own: str, lines: list[str], columns: int) -> str:
    """The image's users after the session's own ones, so that names of its files' owners and services are known."""
    names = {line.split(":")[0] for line in own.splitlines()}
    kept = []
    for line in lines:
        fields = line.split(":")
        sound = len(fields) == columns and fields[0] and fields[2].isascii() and fields[2].isdigit()
        if sound and fields[0] not in names and fields[2] not in ("0", "1000") and line.isprintable():
            names.add(fields[0])
            kept.append(line)
    return own + "".join(f"{line}\n" for line in kept)


def measure(root: int) -> Measured:
    """Goes through the tree in the order of its names. Two images with the same digest have the same content."""
    whole = hashlib.sha256()
    seen: dict[int, str] = {}
    size = count = 0
    for path, directories, files, parent in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        directories.sort()
        for name in sorted((*directories, *files)):
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            count += 1
            if info.st_ino not in seen:
                size += _BLOCK + -(-info.st_size // _BLOCK) * _BLOCK if stat.S_ISREG(info.st_mode) else _BLOCK
            said = _said(name, info, parent, seen)
            record = f"{path}/{name}\0{stat.S_IMODE(info.st_mode):o}\0{said}\n"
            whole.update(record.encode(errors="surrogateescape"))
    return Measured(f"sha256:{whole.hexdigest()}", size, count, _architecture(root))


def _said(name: str, info: os.stat_result, parent: int, seen: dict[int, str]) -> str:
    if stat.S_ISLNK(info.st_mode):
        return f"link {os.readlink(name, dir_fd=parent)}"
    if stat.S_ISDIR(info.st_mode):
        return "directory"
    if not stat.S_ISREG(info.st_mode):
        raise Refused("something that is neither file, directory nor link came into it")
    if (known := seen.get(info.st_ino)) is not None:
        return known
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent), "rb") as file:
        said = f"file {info.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    if info.st_nlink > 1:
        seen[info.st_ino] = said
    return said


def _architecture(root: int) -> str:
    """What its programs are made for: the first one found where programs lie."""
    for place in _LOOKED_AT:
        try:
            directory = open_beneath(root, place or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            for name in sorted(os.listdir(directory))[:_MOST_LOOKED_AT]:
                if found := _machine_of(directory, name):
                    return found
        finally:
            os.close(directory)
    return ""


def _machine_of(directory: int, name: str) -> str:
    """From the header of an ELF file: byte order, then what machine it is for."""
    try:
        opened = open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_NO_SYMLINKS)
    except OSError:
        return ""
    try:
        head = os.read(opened, 20) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    finally:
        os.close(opened)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ""
    number = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)[0]
    return _MACHINES.get(number, f"machine {number}")
