"""Zips of bad people: each is refused with a reason, and nothing of it stays."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, PayloadTooLarge, PortwayError
from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2 as pb
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import COMPONENT
from tests.runtime.installed.packs import frames, install, left_behind, packed, plugin, send, zip_of

GOOD = {
    "manifest.yaml": "author: test\nname: one\nversion: 6.6.6\n",
    "components/default.yaml": COMPONENT.format(module="one"),
    "one.py": "from portway.runtime.sdk import AgentRunner as Runner\n",
}
MEBIBYTE = 1024 * 1024


def with_names(*names: str) -> bytes:
    return zip_of({**GOOD, **{name: "x" for name in names}})


def with_entry(change: Callable[[zipfile.ZipInfo], None], content: bytes = b"x") -> bytes:
    info = zipfile.ZipInfo("extra")
    change(info)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in GOOD.items():
            archive.writestr(name, text)
        archive.writestr(info, content)
    return raw.getvalue()


def of_mode(mode: int) -> bytes:
    def change(info: zipfile.ZipInfo) -> None:
        info.create_system = 3
        info.external_attr = (mode | 0o644) << 16

    return with_entry(change, b"/etc/passwd")


def packed_by(method: int) -> bytes:
    def change(info: zipfile.ZipInfo) -> None:
        info.compress_type = method

    return with_entry(change)


def bomb() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in GOOD.items():
            archive.writestr(name, text)
        with archive.open("zeros", "w") as entry:
            for _ in range(32):
                entry.write(bytes(MEBIBYTE))
    return raw.getvalue()


def that_lies_about_sizes() -> bytes:
    """Says of a bomb that it is one byte, in the directory and before the entry."""
    raw = bytearray(bomb())
    claimed = struct.pack("<L", 32 * MEBIBYTE)
    return bytes(raw.replace(claimed, struct.pack("<L", 1)))


def overlapping() -> bytes:
    """Two names for the same bytes."""
    raw = bytearray(with_names("first", "other"))
    at = [index for index in range(len(raw)) if raw[index : index + 4] == b"PK\1\2"]
    first = raw[at[-2] + 42 : at[-2] + 46]
    raw[at[-1] + 42 : at[-1] + 46] = first
    return bytes(raw)


def encrypted() -> bytes:
    raw = bytearray(with_names("secret"))
    at = [index for index in range(len(raw)) if raw[index : index + 4] == b"PK\1\2"][-1]
    raw[at + 8] |= 1
    return bytes(raw)


def with_many() -> bytes:
    """More entries than are allowed, claimed by its end alone."""
    raw = bytearray(with_names("x"))
    raw[-12:-8] = struct.pack("<HH", 65_000, 65_000)
    return bytes(raw)


def cut() -> bytes:
    whole = with_names("x")
    return whole[: len(whole) // 2]


def damaged() -> bytes:
    raw = bytearray(zip_of({**GOOD, "long": bytes(range(256)) * 64}))
    at = raw.index(b"long") + 40
    raw[at : at + 8] = b"\xff" * 8
    return bytes(raw)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "no zip": lambda: b"MZ" + bytes(1000),
    "empty": lambda: zip_of({}),
    "cut": cut,
    "damaged": damaged,
    "no manifest": lambda: zip_of({"readme.md": "x"}),
    "two plugins": lambda: zip_of({f"{one}/{name}": text for one in "ab" for name, text in GOOD.items()}),
    "up and out": lambda: with_names("../outside"),
    "up amid": lambda: with_names("a/../../outside"),
    "absolute": lambda: with_names("/etc/cron.d/x"),
    "drive": lambda: with_names("C:\\x"),
    "backslashes": lambda: with_names("..\\..\\outside"),
    "zero byte": lambda: with_names("nameX.py").replace(b"nameX.py", b"name\0.py"),
    "line feed": lambda: with_names("a\nb"),
    "dot": lambda: with_names("./x"),
    "long name": lambda: with_names("x" * 300),
    "deep": lambda: with_names("/".join("d" * 40)),
    "case": lambda: with_names("ONE.py"),
    "folder's case": lambda: with_names("Components/x.yaml"),
    "normalisation": lambda: with_names("caf\u00e9", "cafe\u0301"),
    "a file and a folder": lambda: with_names("one.py/inside"),
    "a link": lambda: of_mode(stat.S_IFLNK),
    "a device": lambda: of_mode(stat.S_IFCHR),
    "a disk": lambda: of_mode(stat.S_IFBLK),
    "a pipe": lambda: of_mode(stat.S_IFIFO),
    "a socket": lambda: of_mode(stat.S_IFSOCK),
    "encrypted": encrypted,
    "bzip2": lambda: packed_by(zipfile.ZIP_BZIP2),
    "lzma": lambda: packed_by(zipfile.ZIP_LZMA),
    "bomb": bomb,
    "lying bomb": that_lies_about_sizes,
    "overlapping": overlapping,
    "many entries": with_many,
    "many files": lambda: zip_of({**GOOD, **{f"f{number}": "" for number in range(20_001)}}),
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
async def test_each_is_refused_and_leaves_nothing(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0"))
    before = left_behind(config.data)
    refused: dict[str, PortwayError] = {}
    for name, make in HOSTILE.items():
        try:
            await install(runtime.operator, make())
        except (InvalidInput, PayloadTooLarge) as error:
            refused[name] = error
    assert HOSTILE.keys() - refused.keys() == set()
    for name, told in refused.items():
        assert len(told.message) > 20, name
        assert str(config.data) not in told.message, "no path of the machine is told"
    assert left_behind(config.data) == before
    found = await plugin(runtime.stub)
    assert (found.version, len(found.versions)) == ("1.0.0", 1)
    assert not (config.data.parent / "outside").exists()


async def test_more_bytes_than_allowed_are_refused_as_they_come(runtime: LiveRuntime, config: RuntimeConfig) -> None:
    with pytest.raises(PayloadTooLarge):
        await send(runtime.operator, frames(bytes(65 * MEBIBYTE), pb.InstallPluginStart()))
    assert left_behind(config.data) == []
