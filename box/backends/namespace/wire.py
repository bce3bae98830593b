"""The private line between the box server and its launcher process: one JSON object a packet, descriptors beside it.

Both ends are this program, so nothing is negotiated; what arrives is still taken apart into typed values.
"""

import array
import dataclasses
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from portway.box.backends.types import Steering

MAX_PACKET = 192 * 1024
MAX_DESCRIPTORS = 48
_BUFFER = 1024 * 1024
_MAX_INLINE = 64 * 1024
# No JSON begins like this.
_IN_A_FILE = b"\0"


def new_line() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line that keeps packets apart and tells when the other end is gone."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ends


def send(line: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= _MAX_INLINE:
        return send_raw(line, data, descriptors)
    # What is too long for a packet goes along as a file: a packet that is cut short would end the launcher process.
    file = os.memfd_create("message", os.MFD_CLOEXEC)
    with os.fdopen(file, "wb") as writing:
        writing.write(data)
        writing.flush()
        send_raw(line, _IN_A_FILE, [file, *(descriptors or [])])


def send_raw(line: socket.socket, data: bytes, descriptors: list[int] | None = None) -> None:
    rights = array.array("i", descriptors or [])
    line.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message, or `None` when the other end is gone."""
    data, descriptors = receive_raw(line)
    if not data:
        return None
    if data == _IN_A_FILE:
        file, *descriptors = descriptors
        with os.fdopen(file, "rb") as reading:
            reading.seek(0)
            data = reading.read()
    message: dict[str, Any] = json.loads(data)
    return message, descriptors


def receive_raw(line: socket.socket) -> tuple[bytes, list[int]]:
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _flags, _address = line.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


@dataclass(frozen=True, slots=True)
class MountOrder:
    """A directory of the machine to mount: `path` below `root`, no part of which may be a link."""

    root: str
    path: str


@dataclass(frozen=True, slots=True)
class SkillOrder:
    """A skill to show: its files lie in `path` below `root`. With `writable`, a copy of them."""

    name: str
    digest: str
    root: str
    path: str
    writable: bool

    def to_fields(self) -> list[Any]:
        return [self.name, self.digest, self.root, self.path, self.writable]


@dataclass(frozen=True, slots=True)
class SkillsOrder:
    """Put a set of skills together in a session, its `number`th; the descriptor of the session's mounts comes along.

    `done_with` are the sets that no command is told of any more.
    """

    request: int
    number: int
    user: int | None
    skills: tuple[SkillOrder, ...]
    done_with: tuple[int, ...] = ()

    def to_message(self) -> dict[str, Any]:
        skills = [skill.to_fields() for skill in self.skills]
        head = {"kind": "skills", "request": self.request, "number": self.number}
        return {**head, "user": self.user, "skills": skills, "done_with": self.done_with}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "SkillsOrder":
        skills = tuple(SkillOrder(*one) for one in message["skills"])
        return cls(message["request"], message["number"], message["user"], skills, tuple(message["done_with"]))


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """Put a session's mounts together. `workspace`: `image` (a descriptor comes along), `memory`, `folder`, `host`.

    `base` is the root file system to start from, where it is not this machine's; the mounts are then put into it.
    """

    request: int
    key: str
    user: int | None
    workspace: str
    folder: MountOrder | None
    disk_bytes: int
    inodes: int
    temporary_bytes: int
    writable_root: bool
    mounts: tuple[MountOrder | None, ...]
    targets: tuple[str, ...]
    read_only: tuple[bool, ...] = ()
    workspace_read_only: bool = False
    base: MountOrder | None = None
    skills: tuple[SkillOrder, ...] = ()
    steering: Steering | None = None

    def to_message(self) -> dict[str, Any]:
        return {
            "kind": "open",
            "request": self.request,
            "key": self.key,
            "user": self.user,
            "workspace": self.workspace,
            "folder": _mount_fields(self.folder),
            "disk_bytes": self.disk_bytes,
            "inodes": self.inodes,
            "temporary_bytes": self.temporary_bytes,
            "writable_root": self.writable_root,
            "mounts": [_mount_fields(mount) for mount in self.mounts],
            "targets": list(self.targets),
            "read_only": list(self.read_only),
            "workspace_read_only": self.workspace_read_only,
            "base": _mount_fields(self.base),
            "skills": [skill.to_fields() for skill in self.skills],
            "steering": _steering_fields(self.steering),
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "OpenOrder":
        taken_apart = ("folder", "mounts", "targets", "read_only", "base", "skills", "steering")
        fields = {name: message[name] for name in cls.__slots__ if name not in taken_apart}
        folder = _mount_order(message["folder"])
        mounts = tuple(_mount_order(one) for one in message["mounts"])
        return cls(
            folder=folder,
            mounts=mounts,
            targets=tuple(message["targets"]),
            read_only=tuple(message["read_only"]),
            base=_mount_order(message["base"]),
            skills=tuple(SkillOrder(*one) for one in message["skills"]),
            steering=_steering(message["steering"]),
            **fields,
        )


def _steering_fields(steering: Steering | None) -> dict[str, Any] | None:
    return None if steering is None else dataclasses.asdict(steering)


def _steering(fields: dict[str, Any] | None) -> Steering | None:
    if fields is None:
        return None
    return Steering(fields["port"], tuple(fields["refused"]), tuple(fields["allowed"]))


REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class ListenOrder:
    """Make a listening socket in a session, whose mounts and network come along. `kind`: `tcp`, `udp`, `unix`; or
    REMOVE the one of Unix with this name.

    `port` is one of its loopback, `name` one of a socket of Unix. `any_address`: see `PortPlace`.
    """

    request: int
    kind: str
    port: int = 0
    name: str = ""
    any_address: bool = False

    def to_message(self) -> dict[str, Any]:
        return {
            "kind": "listen",
            "request": self.request,
            "socket": self.kind,
            "port": self.port,
            "name": self.name,
            "any_address": self.any_address,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "ListenOrder":
        return cls(message["request"], message["socket"], message["port"], message["name"], message["any_address"])


def _mount_fields(order: MountOrder | None) -> list[str] | None:
    return None if order is None else [order.root, order.path]


def _mount_order(fields: list[str] | None) -> MountOrder | None:
    return None if fields is None else MountOrder(*fields)
