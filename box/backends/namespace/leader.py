"""A program of the box's own that makes a command the owner of its terminal, for sessions of an image.

No program of the image is trusted with it, or needed for it. It lies in memory and is executed by its descriptor:
nothing of it appears in the session's files. Its machine code is written down here, from this (x86_64):

    setsid(); ioctl(0, TIOCSCTTY, 0); close(7)
    for each of argv[1:] until an empty one: execve(it, the arguments after the empty one, environment)
        where that is ENOEXEC: execve("/bin/sh", [.., it, the arguments after the first])
    exit(126 where one was not permitted, otherwise 127)
"""

import fcntl
import os
import platform
import struct
from collections.abc import Iterator
from functools import cache

from portway.box.backends.types import CommandSpec

# Where the launcher puts it: the first place after what bubblewrap has of the box.
_PLACE = 7
OWN_LEADER = (f"/proc/self/fd/{_PLACE}",)
_CODE = {
    "x86_64": bytes.fromhex(
        "b8700000000f0531ffbe0e54000031d2b8100000000f05bf07000000b8030000000f05488b0424488d54c410488d5c24"
        "104889de41bc7f000000488b3e4883c608803f0075f4488b3b803f007438b83b0000000f0583f8f8751b48893e488d3d"
        "2c00000048897ef84883ee08b83b0000000f05eb114883c30883f8f375c841bc7e000000ebc04489e7b83c0000000f05"
        "2f62696e2f736800"
    )
}
_MACHINE_OF_ELF = 62
_BASE, _HEADERS = 0x10000, 64 + 56
_MFD_EXEC = 0x10
_MOST_PLACES = 64


def has_own_leader() -> bool:
    """Whether it was written for this machine."""
    return platform.machine() in _CODE


@cache
def leader_program() -> int:
    """A descriptor of it, which nobody can write to, as long as this process lives."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("terminal", flags | _MFD_EXEC)
    except OSError:
        # Before Linux 6.3 everything in memory can be executed.
        descriptor = os.memfd_create("terminal", flags)
    os.write(descriptor, _elf(_CODE[platform.machine()]))
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def _elf(code: bytes) -> bytes:
    """A program of one segment, to be read and executed."""
    start, size = _BASE + _HEADERS, _HEADERS + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, _MACHINE_OF_ELF, 1, start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return identity + header + segment + code


def led(command: CommandSpec) -> list[str]:
    """The command line that has it execute a command."""
    return [*OWN_LEADER, *_places(command), "", *command.argv]


def _places(command: CommandSpec) -> Iterator[str]:
    """Where the program may lie, in order, as a shell looks for it."""
    program = command.argv[0]
    if "/" in program:
        yield program
        return
    for directory in dict(command.env).get("PATH", "/usr/bin:/bin").split(":")[:_MOST_PLACES]:
        yield f"{directory or '.'}/{program}"
