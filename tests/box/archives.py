"""Tar archives for tests, good ones and those that nobody honest makes; made by hand where no program makes them."""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as it is to stand in the archive, right or wrong."""

    name: bytes
    content: bytes = b""
    kind: bytes = b"0"
    target: bytes = b""
    mode: int = 0o644
    size: bytes | None = None
    magic: bytes = b"ustar\x0000"

    def block(self) -> bytes:
        size = b"%011o\0" % len(self.content) if self.size is None else self.size
        fields = (
            (self.name, 100), (b"%07o\0" % self.mode, 8), (b"0000000\0", 8), (b"0000000\0", 8), (size, 12),
            (b"%011o\0" % 0, 12), (b" " * 8, 8), (self.kind, 1), (self.target, 100), (self.magic, 8),
        )  # fmt: skip
        block = b"".join(value[:width].ljust(width, b"\0") for value, width in fields).ljust(BLOCK, b"\0")
        return block[:148] + b"%06o\0 " % sum(block) + block[156:]

    def __bytes__(self) -> bytes:
        return self.block() + self.content + bytes(-len(self.content) % BLOCK)


def archive(*members: Member, end: bytes = END) -> bytes:
    return b"".join(bytes(member) for member in members) + end


def pax(*records: tuple[str, str], kind: bytes = b"x") -> Member:
    """An extended header with these records."""
    content = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        length = len(body)
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        content += str(length).encode() + body
    return Member(b"PaxHeader", content, kind)


def ordinary(files: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """What everybody's tar makes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as written:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o640
            written.addfile(member, io.BytesIO(content))
    return made.getvalue()


def members_of(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as read:
        return {member.name: member for member in read.getmembers()}


def content_of(packed: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(packed)) as read:
        file = read.extractfile(name)
        assert file is not None
        return file.read()
