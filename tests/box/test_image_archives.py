"""Archives that are not meant well: each is refused with a reason, or taken without harm, and leaves nothing behind."""

import bz2
import gzip
import json
import lzma
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, LimitExceeded
from portway.rpc.ids import new_id
from portway.v1 import image_pb2
from tests.asking import ask
from tests.box import roots
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, children_of, why_not
from tests.box.inside import dial
from tests.waiting import until

SEED = 20_261_121


def a_name() -> str:
    return f"test/{new_id('img')}"


def header(name: bytes = b"file", size: bytes = b"00000000000", kind: bytes = b"0") -> bytes:
    """A header as bytes, to write into it what no program would."""
    made = bytearray(512)
    made[: len(name)] = name
    made[100:108], made[124 : 124 + len(size)], made[156:157], made[257:265] = b"0000644\0", size, kind, b"ustar\x0000"
    made[148:156] = b"        "
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def pax(kind: bytes = b"x", **records: str) -> bytes:
    """An extended header that says this of the next entry."""
    data = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode(errors="surrogateescape")
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        data += str(length).encode() + rest
    return header(b"pax", b"%011o" % len(data), kind) + data + bytes(-len(data) % 512)


END = bytes(1024)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing at all": (lambda: b"", "cut off"),
    "no archive": (lambda: b"hello" * 1000, "no tar archive"),
    "an empty archive": (lambda: END, "it is empty"),
    "cut off in a file": (lambda: roots.tar_of(roots.file("a", b"x" * 9000))[:3000], "cut off"),
    "cut off between entries": (lambda: roots.tar_of(roots.file("a", b"x" * 512))[:1024], "cut off"),
    "cut off while packed": (lambda: gzip.compress(roots.root_tar())[:-9], "cut off"),
    "damaged while packed": (lambda: _flipped(gzip.compress(roots.root_tar())), "damaged|add up|empty|cut off"),
    "something after the packed part": (lambda: gzip.compress(roots.root_tar()) + b"more", "follows"),
    "upwards": (lambda: roots.tar_of(roots.file("../outside", b"x")), "leads upwards"),
    "upwards in the middle": (lambda: roots.tar_of(roots.file("a/b/../../../outside", b"x")), "leads upwards"),
    "upwards by an extended header": (lambda: pax(path="a/../../outside") + header() + END, "leads upwards"),
    "through a link": (
        lambda: roots.tar_of(roots.link("a", "/"), roots.file("a/outside", b"x")),
        "through a link",
    ),
    "through a link to above": (
        lambda: roots.tar_of(roots.link("a", "../../.."), roots.file("a/outside", b"x")),
        "through a link",
    ),
    "through a link of links": (
        lambda: roots.tar_of(roots.link("a", "."), roots.link("b", "a/a/a"), roots.file("b/x", b"x")),
        "through a link",
    ),
    "through a file": (
        lambda: roots.tar_of(roots.file("a", b"x"), roots.file("a/b", b"x")),
        "through a link or a file",
    ),
    "a directory through a link": (
        lambda: roots.tar_of(roots.link("a", "/tmp"), roots.directory("a/b/c")),
        "through a link",
    ),
    "a hard link to what is outside": (lambda: roots.tar_of(roots.hard_link("a", "/etc/shadow")), "not in the image"),
    "a hard link upwards": (lambda: roots.tar_of(roots.hard_link("a", "../../etc/shadow")), "leads upwards"),
    "a hard link through a link": (
        lambda: roots.tar_of(roots.link("etc", "/etc"), roots.hard_link("a", "etc/passwd")),
        "through a link",
    ),
    "a hard link to a directory": (
        lambda: roots.tar_of(roots.directory("a"), roots.hard_link("b", "a")),
        "to a directory",
    ),
    "a name too long": (lambda: roots.tar_of(roots.file("x" * 256)), "no file system takes"),
    "a path too long": (lambda: roots.tar_of(roots.file("/".join(["x" * 200] * 25))), "no file system takes"),
    "a path too deep": (lambda: roots.tar_of(roots.file("/".join("x" * 200))), "no file system takes"),
    "a zero byte in a path": (lambda: pax(path="a\0b") + header() + END, "no file system takes"),
    "a kind that is none": (lambda: header(kind=b"Q") + END, "no image has"),
    "a sparse file": (lambda: pax(b"x", **{"GNU.sparse.major": "1"}) + header() + END, "sparse"),
    "an old sparse file": (lambda: header(kind=b"S") + END, "no image has"),
    "a size below zero": (lambda: header(size=b"\xff" * 12) + END, "impossible size"),
    "a size beyond everything": (lambda: header(size=b"\xbf" + b"\xff" * 11) + END, "impossible size"),
    "a size that is no number": (lambda: header(size=b"0000000zz00") + END, "no number"),
    "an extended size that is none": (lambda: pax(size="-1") + header() + END, "impossible size"),
    "a checksum that is wrong": (lambda: header()[:148] + b"0000000\0" + header()[156:] + END, "add up"),
    "an extended header without end": (lambda: header(size=b"77777777777", kind=b"x") + END, "larger than"),
    "a long name without end": (lambda: header(size=b"77777777777", kind=b"L") + END, "larger than"),
    "extended headers without end": (lambda: pax(path="a") * 20 + header() + END, "more extended headers"),
    "an extended header that lies about itself": (
        lambda: header(size=b"00000000012", kind=b"x") + b"999 path=x".ljust(512, b"\0") + END,
        "damaged",
    ),
    "an extended header for all": (lambda: pax(kind=b"g", path="x") + header() + END, "names one of them"),
    "a directory with content": (lambda: header(b"a/", b"00000001000", b"5") + bytes(512) + END, "which it cannot"),
    "a link to nothing": (lambda: roots.tar_of(roots.link("a", "")), "link to nothing"),
    "a root that is a link": (lambda: header(b"./", kind=b"2") + END, "no directory"),
}


def _flipped(data: bytes) -> bytes:
    return data[:2000] + bytes(byte ^ 0x5A for byte in data[2000:2100]) + data[2100:]


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_sound_is_refused_and_leaves_nothing(
    channel: PortwayChannel, box: BoxProcess, name: str
) -> None:
    make, reason = REFUSED[name]
    outside = roots.names_below(box.data)
    with pytest.raises(InvalidInput, match=reason):
        await roots.import_image(channel, a_name(), make())
    await until(lambda: not roots.left_in(box.data))
    assert _own(roots.names_below(box.data)) == _own(outside)


def _own(names: set[str]) -> set[str]:
    """Without what goes on beside: sessions of other tests."""
    return {name for name in names if "/images/" not in name and "/sessions" not in name and "templates" not in name}


async def test_what_has_no_place_in_an_image_is_left_out_and_told(channel: PortwayChannel) -> None:
    entries: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = [
        roots.device("dev/null"),
        roots.device("srv/sda", tarfile.BLKTYPE),
        roots.device("srv/pipe", tarfile.FIFOTYPE),
        roots.file("proc/version", b"not this kernel"),
        roots.file("tmp/left", b"over"),
        roots.file("bin/root", b"x", 0o6755),
        roots.file("//srv//kept", b"x"),
    ]
    made = await roots.import_image(channel, a_name(), roots.tar_of(*roots.root_entries(), *entries))
    told = " ".join(made.notes)
    assert "2 × devices" in told or "3 × devices" in told
    assert "become another user" in told
    assert "/tmp" in told


async def test_the_last_entry_of_a_name_stands(channel: PortwayChannel) -> None:
    twice = roots.tar_of(
        *roots.root_entries(),
        roots.link("first", "/etc/passwd"),
        roots.file("first", b"second"),
        roots.directory("second"),
        roots.file("second/in", b"x"),
        roots.link("second", "first"),
    )
    once = roots.tar_of(*roots.root_entries(), roots.file("first", b"second"), roots.link("second", "first"))
    one = await roots.import_image(channel, a_name(), twice)
    two = await roots.import_image(channel, a_name(), once)
    assert one.image.digest == two.image.digest


async def test_attributes_owners_and_times_make_no_difference(channel: PortwayChannel) -> None:
    plain, odd = roots.file("srv/file", b"x", 0o600), roots.file("srv/file", b"x", 0o4666)
    odd[0].uid, odd[0].gid, odd[0].mtime = 4_000_000, 12, 2**33
    odd[0].pax_headers = {"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    one = await roots.import_image(channel, a_name(), roots.tar_of(plain))
    two = await roots.import_image(channel, a_name(), roots.tar_of(odd))
    three = await roots.import_image(channel, a_name(), roots.tar_of(odd, format=tarfile.GNU_FORMAT))
    assert one.image.digest == two.image.digest == three.image.digest


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
async def test_a_bomb_is_refused(channel: PortwayChannel, box: BoxProcess, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(roots.tar_of(roots.file("zeros", bytes(150_000_000))))
    assert len(packed) < 500_000
    with pytest.raises(LimitExceeded, match="packed more than"):
        await roots.import_image(channel, a_name(), packed)
    await until(lambda: not roots.left_in(box.data))


async def test_a_bomb_in_a_layer_is_refused(channel: PortwayChannel, box: BoxProcess) -> None:
    archive = roots.oci_archive(roots.tar_of(roots.file("zeros", bytes(150_000_000))))
    with pytest.raises(LimitExceeded, match="packed more than"):
        await roots.import_image(channel, a_name(), archive)
    await until(lambda: not roots.left_in(box.data))


@pytest.fixture(scope="module")
def narrow() -> Iterator[BoxProcess]:
    """A box with little room for images, in the mode that this test run allows."""
    mode = UNPRIVILEGED if why_not(ROOT) else ROOT
    if reason := why_not(mode):
        pytest.skip(reason)
    room = {"max_entries": 300, "max_image_bytes": 12_000_000, "max_bytes": 16_000_000, "max_count": 3}
    with box_process(mode, settings={"images": {**room, "concurrent_imports": 1, "import_idle": 1.0}}) as running:
        running.start()
        yield running


async def test_more_than_allowed_is_refused(narrow: BoxProcess) -> None:
    many = b"".join(header(b"%06d/" % number, kind=b"5") for number in range(400)) + END
    # Each entry makes four: the directories above it are counted as well.
    deep = b"".join(header(b"%d/a/b/%d/" % (number, number), kind=b"5") for number in range(100)) + END
    large = roots.tar_of(*(roots.file(f"f{number}", os.urandom(1_000_000)) for number in range(13)))
    over = b"".join(header(b"same", b"%011o" % 1_000_000) + bytes(1_000_448) for _ in range(500)) + END
    async with dial(narrow) as channel:
        for data, reason in ((many, "300 entries"), (deep, "300 entries"), (large, "bytes"), (over, "bytes|entries")):
            with pytest.raises(LimitExceeded, match=reason):
                await roots.import_image(channel, a_name(), data)
            await until(lambda: not roots.left_in(narrow.data))


async def test_an_import_for_which_nothing_comes_is_given_up(narrow: BoxProcess) -> None:
    async with dial(narrow) as channel:
        call = roots.images_of(channel).ImportImage()
        start = image_pb2.ImportImageStart(name=a_name())
        await call.write(image_pb2.ImportImageRequest(start=start))
        await until(lambda: bool(roots.left_in(narrow.data)))
        with pytest.raises(LimitExceeded, match="are being imported"):
            await roots.import_image(channel, a_name(), roots.root_tar())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not roots.left_in(narrow.data))


async def test_all_images_together_are_bounded_in_bytes_and_number(narrow: BoxProcess) -> None:
    small, medium = roots.tar_of(roots.file("a", b"x")), roots.tar_of(roots.file("a", os.urandom(9_000_000)))
    names = [a_name() for _ in range(3)]
    async with dial(narrow) as channel:
        await roots.import_image(channel, names[0], medium)
        with pytest.raises(LimitExceeded, match="left to it"):
            await roots.import_image(channel, a_name(), medium)
        for name in names[1:]:
            await roots.import_image(channel, name, small)
        with pytest.raises(LimitExceeded, match="3 images"):
            await roots.import_image(channel, a_name(), small)
        # They are there after a start again, and their room is free once they are removed.
        narrow.kill()
        narrow.start()
    async with dial(narrow) as channel:
        listed = (await ask(channel, image_pb2.ListImagesRequest())).images
        assert {image.name for image in listed} == set(names)
        for name in names:
            await ask(channel, image_pb2.RemoveImageRequest(name=name))
        name = a_name()
        await roots.import_image(channel, name, medium)
        await ask(channel, image_pb2.RemoveImageRequest(name=name))


@pytest.mark.parametrize("size", [0, 100_000, 900_000])
async def test_a_box_that_is_killed_in_an_import_leaves_nothing(narrow: BoxProcess, size: int) -> None:
    async with dial(narrow) as channel:
        call = roots.images_of(channel).ImportImage()
        await call.write(image_pb2.ImportImageRequest(start=image_pb2.ImportImageStart(name=a_name())))
        await call.write(image_pb2.ImportImageRequest(data=roots.root_tar()[:size]))
        await until(lambda: bool(roots.left_in(narrow.data)))
        unpacking = [pid for pid in children_of(narrow.pid) if "unpack.program" in cmdline(pid)]
        narrow.kill()
        await until(lambda: not any(cmdline(pid) for pid in unpacking))
        assert roots.left_in(narrow.data)
        narrow.start()
        assert roots.left_in(narrow.data) == []
        call.cancel()


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a layer that is not there": (lambda: _saved({"Layers": ["gone/layer.tar"]}), "not there"),
    "a layer outside": (lambda: _saved({"Layers": ["../../../../etc/passwd"]}), "not there"),
    "an absolute layer": (lambda: _saved({"Layers": ["/etc/passwd"]}), "not there"),
    "a layer by a link to outside": (
        lambda: _saved({"Layers": ["outside"]}, roots.link("outside", "/etc/passwd")),
        "not there",
    ),
    "a layer that is a directory": (lambda: _saved({"Layers": ["place"]}, roots.directory("place")), "is no file"),
    "a layer with another digest": (lambda: _saved({}, diff="0" * 64), "digest differs"),
    "more digests than layers": (lambda: _saved({"Layers": []}), "do not fit"),
    "no config": (lambda: _saved({"Config": "gone.json"}), "not there"),
    "a manifest that is a number": (lambda: roots.tar_of(roots.file("manifest.json", b"1")), "shape"),
    "a manifest that is no JSON": (lambda: roots.tar_of(roots.file("manifest.json", b"[" * 100_000)), "no JSON"),
    "two images": (lambda: roots.tar_of(roots.file("manifest.json", b"[{}, {}]")), "holds 2 images"),
    "an index of itself": (lambda: _endless_index(), "too deep|no JSON|digest|images for"),
    "a whiteout of what has no name": (
        lambda: roots.oci_archive(roots.root_tar(), roots.tar_of(roots.file("a/.wh.."))),
        "nothing that has a name",
    ),
    "a blob that is another": (lambda: _wrong_blob(), "digest differs"),
}


def _saved(changes: dict[str, object], *more: tarfile.TarInfo, diff: str = "") -> bytes:
    layer = roots.root_tar()
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{diff or roots.digest_of(layer)}"]}}).encode()
    manifest = {"Config": "config.json", "Layers": ["layer.tar"], **changes}
    files = [roots.file("config.json", config), roots.file("layer.tar", layer)]
    return roots.tar_of(*files, *more, roots.file("manifest.json", json.dumps([manifest]).encode()))


def _endless_index() -> bytes:
    digest = "0" * 64
    index = json.dumps({"manifests": [{"digest": f"sha256:{digest}"}]}).encode()
    return roots.tar_of(roots.file(f"blobs/sha256/{digest}", index), roots.file("index.json", index))


def _wrong_blob() -> bytes:
    digest = roots.digest_of(b"{}")
    index = json.dumps({"manifests": [{"digest": f"sha256:{digest}"}]}).encode()
    return roots.tar_of(roots.file(f"blobs/sha256/{digest}", b"[]"), roots.file("index.json", index))


@pytest.mark.parametrize("name", ARCHIVES)
async def test_an_archive_with_layers_that_is_not_sound_is_refused(
    channel: PortwayChannel, box: BoxProcess, name: str
) -> None:
    make, reason = ARCHIVES[name]
    with pytest.raises(InvalidInput, match=reason):
        await roots.import_image(channel, a_name(), make())
    await until(lambda: not roots.left_in(box.data))


async def test_frames_out_of_order_are_refused(channel: PortwayChannel) -> None:
    with pytest.raises(InvalidInput):
        await roots.import_frames(channel, [image_pb2.ImportImageRequest(data=b"x")])
    start = image_pb2.ImportImageRequest(start=image_pb2.ImportImageStart(name=a_name()))
    with pytest.raises(InvalidInput):
        await roots.import_frames(channel, [start, start])
    with pytest.raises(InvalidInput):
        await roots.import_frames(channel, [])
    with pytest.raises(InvalidInput):
        await roots.import_frames(channel, [start, image_pb2.ImportImageRequest(data=bytes(1024 * 1024 + 1))])


def mutations(count: int) -> Iterator[bytes]:
    """Archives that were sound once, changed at random places in random ways; the same ones each time."""
    chosen = random.Random(SEED)
    tree: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = []
    tree += [roots.directory("a"), roots.file("a/b", b"x" * 700), roots.link("l", "a"), roots.hard_link("h", "a/b")]
    plain = [
        roots.tar_of(*tree, roots.file("x" * 150, b"y")),
        roots.tar_of(*tree, roots.file("x" * 150, b"y"), format=tarfile.GNU_FORMAT),
        roots.oci_archive(roots.tar_of(*tree), packed=False),
        roots.docker_archive(roots.tar_of(*tree), roots.tar_of(*tree)),
        gzip.compress(roots.tar_of(*tree)),
    ]
    for _ in range(count):
        data = bytearray(chosen.choice(plain))
        for _change in range(chosen.randrange(1, 6)):
            at = chosen.randrange(len(data))
            match chosen.randrange(5):
                case 0:
                    data[at] = chosen.randrange(256)
                case 1:
                    data[at : at + 12] = chosen.choice([b"../../../../", b"\0" * 12, b"\xff" * 12, b"/etc/passwd\0"])
                case 2:
                    del data[at : at + 512]
                case 3:
                    data[at:at] = data[chosen.randrange(len(data)) :][:512]
                case _:
                    block = at // 512 * 512
                    data[block + 156 : block + 157] = chosen.choice([b"0", b"1", b"2", b"5", b"x", b"L", b"K", b"g"])
            if not data:
                data = bytearray(b"x")
        yield _mended(data) if chosen.random() < 0.8 else bytes(data)


def _mended(data: bytearray) -> bytes:
    """With checksums that fit again: what is wrong lies deeper then."""
    for block in range(0, len(data) - 511, 512):
        if data[block + 257 : block + 262] == b"ustar":
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data)


async def test_no_mutation_of_an_archive_breaks_anything(channel: PortwayChannel, box: BoxProcess) -> None:
    outside = _own(roots.names_below(box.data))
    made = refused = 0
    for data in mutations(80):
        name = a_name()
        try:
            await roots.import_image(channel, name, data)
            made += 1
            await ask(channel, image_pb2.RemoveImageRequest(name=name))
        except (InvalidInput, LimitExceeded) as error:
            assert "died" not in error.message
            refused += 1
    assert made and refused > 10
    await until(lambda: not roots.left_in(box.data))
    assert _own(roots.names_below(box.data)) == outside
