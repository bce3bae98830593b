"""Upload and download: all of an archive or nothing of it, and nothing beside where it belongs."""

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.clients.box import Box
from portway.clients.local_archive import pack, unpack
from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, LimitExceeded, NotPermitted, PortwayError, Reason, WrongState
from portway.rpc.status import errors_by_meaning
from portway.v1 import file_pb2, file_pb2_grpc, session_pb2
from tests.asking import stream
from tests.box.archives import END, Member, archive, content_of, members_of, ordinary, pax
from tests.box.box_process import ROOT, BoxProcess
from tests.box.inside import Inside, begin, new_session, until_said
from tests.box.programs import FLIP_LINKS
from tests.waiting import until

GOOD = Member(b"good", b"good")


async def upload(
    inside: Inside, packed: bytes, where: str = ".", piece: int = 700_000, **start: bool
) -> file_pb2.UploadResponse:
    async def frames() -> AsyncIterator[file_pb2.UploadRequest]:
        yield file_pb2.UploadRequest(start=file_pb2.UploadStart(directory=inside.path(where), **start))
        for at in range(0, len(packed), piece):
            yield file_pb2.UploadRequest(data=packed[at : at + piece])

    with errors_by_meaning():
        return await file_pb2_grpc.FileServiceStub(inside.channel).Upload(frames())


async def download(inside: Inside, where: str) -> tuple[bytes, file_pb2.DownloadEnd]:
    frames = [one async for one in stream(inside.channel, file_pb2.DownloadRequest(file=inside.path(where)))]
    assert all(len(frame.data) <= 256 * 1024 for frame in frames)
    assert frames[-1].HasField("end") and not frames[-1].data
    return b"".join(frame.data for frame in frames), frames[-1].end


async def everything(inside: Inside) -> str:
    return (await inside.sh("find . -mindepth 1 -printf '%y %#m %s %P %l\\n' | sort -k4")).stdout


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 700_000])
async def test_archives_of_every_program_are_unpacked_whatever_the_pieces(
    inside: Inside, form: int, piece: int
) -> None:
    long = "d" * 90 + "/" + ("e" * 90 if form != tarfile.USTAR_FORMAT else "e")
    files = [("a.txt", b"a"), (long, b"long"), ("sub/é.txt", b"x" * 1500), ("empty", b"")]
    answer = await upload(inside, ordinary(files, form), piece=piece)
    assert (answer.file_count, answer.byte_count) == (4, 1505)
    for name, content in files:
        assert await inside.read(name) == content
    assert (await inside.sh("stat -c '%a %u' a.txt; find . -name '.upload*'")).stdout == f"640 {await inside.user()}\n"


async def test_what_was_downloaded_is_uploaded_again_the_same(inside: Inside) -> None:
    await inside.sh(
        "mkdir -p from/deep/er from/empty to; head -c 3000000 /dev/urandom > from/deep/big; echo x > from/deep/er/x; "
        "chmod 750 from/deep/er/x; ln -s ../big from/deep/er/link; touch -d @86400 from/deep/big; "
        f"echo long > from/{'n' * 240}; mkdir -p from/{'p' * 200}/{'q' * 200}; echo y > from/{'p' * 200}/{'q' * 200}/y"
    )
    packed, end = await download(inside, "from")
    assert (end.file_count, end.skipped_count, end.changed_count) == (4, 0, 0)
    answer = await upload(inside, packed, "to")
    assert (answer.file_count, answer.byte_count, answer.link_count) == (4, end.byte_count, 1)
    shown = "find . -mindepth 1 -printf '%y %m %s %P %l\\n' | sed 's/^d \\([0-7]*\\) [0-9]*/d \\1/' | sort"
    same = await inside.sh(
        f"(cd from; {shown}) > a; (cd to; {shown}) > b; diff a b && diff -r from to && stat -c %Y to/deep/big"
    )
    assert same.stdout == "86400\n", same


async def test_one_file_is_downloaded_as_one_entry(inside: Inside) -> None:
    await inside.write("dir/file.txt", b"content", make_parents=True)
    packed, end = await download(inside, "dir/file.txt")
    assert list(members_of(packed)) == ["file.txt"] and content_of(packed, "file.txt") == b"content"
    assert (end.file_count, end.byte_count) == (1, 7)


DIRECTORY = Member(b"d/", b"", b"5")
SPARSE = Member(b"sparse", b"", b"S")
BAD: dict[str, bytes] = {
    "nothing": b"",
    "text": b"this is no archive" * 100,
    "absolute": archive(GOOD, Member(b"/etc/passwd", b"x")),
    "up": archive(GOOD, Member(b"../up", b"x")),
    "up in the middle": archive(GOOD, Member(b"a/../../up", b"x")),
    "up that stays": archive(GOOD, Member(b"a/../b", b"x")),
    "hard link": archive(GOOD, Member(b"hard", b"", b"1", b"good")),
    "character device": archive(GOOD, Member(b"null", b"", b"3")),
    "block device": archive(GOOD, Member(b"sda", b"", b"4")),
    "pipe": archive(GOOD, Member(b"pipe", b"", b"6")),
    "contiguous": archive(GOOD, Member(b"old", b"x", b"7")),
    "unknown kind": archive(GOOD, Member(b"odd", b"x", b"Z")),
    "sparse": archive(GOOD, SPARSE),
    "sparse by pax": archive(GOOD, pax(("GNU.sparse.major", "1"), ("GNU.sparse.name", "x")), Member(b"s", b"x")),
    "link out": archive(GOOD, Member(b"link", b"", b"2", b"../../etc")),
    "absolute link": archive(GOOD, Member(b"link", b"", b"2", b"/etc")),
    "link nowhere": archive(GOOD, Member(b"link", b"", b"2", b"")),
    "through a link": archive(GOOD, DIRECTORY, Member(b"link", b"", b"2", b"d"), Member(b"link/x", b"x")),
    "over a link": archive(GOOD, Member(b"link", b"", b"2", b"good"), Member(b"link", b"x")),
    "twice": archive(GOOD, GOOD),
    "file then directory": archive(GOOD, Member(b"good/", b"", b"5")),
    "directory then file": archive(GOOD, Member(b"d/", b"", b"5"), Member(b"d", b"x")),
    "file as directory": archive(GOOD, Member(b"good/x", b"x")),
    "directory with content": archive(GOOD, Member(b"d/", b"content", b"5")),
    "link with content": archive(GOOD, Member(b"l", b"content", b"2", b"good")),
    "file named as directory": archive(GOOD, Member(b"f/", b"x")),
    "no name": archive(GOOD, Member(b"", b"x")),
    "dot": archive(GOOD, Member(b".", b"x")),
    "negative size": archive(GOOD, Member(b"n", b"", size=b"\xff" * 12)),
    "size that is no number": archive(GOOD, Member(b"n", b"", size=b"12345abc\0")),
    "enormous size": archive(GOOD, Member(b"n", b"", size=b"\x80" + b"\x7f" * 11)),
    "pax size negative": archive(GOOD, pax(("size", "-1")), Member(b"n", b"x")),
    "pax size": archive(GOOD, pax(("size", "1" * 18)), Member(b"n", b"x")),
    "pax path out": archive(GOOD, pax(("path", "../../out")), Member(b"n", b"x")),
    "pax path absolute": archive(GOOD, pax(("path", "/etc/x")), Member(b"n", b"x")),
    "pax link out": archive(GOOD, pax(("linkpath", "/etc/passwd")), Member(b"n", b"", b"2", b"good")),
    "pax zero byte": archive(GOOD, pax(("path", "a\0b")), Member(b"n", b"x")),
    "pax damaged": archive(GOOD, Member(b"h", b"99 path=x\n", b"x"), Member(b"n", b"x")),
    "pax without length": archive(GOOD, Member(b"h", b"path=x\n", b"x"), Member(b"n", b"x")),
    "pax twice": archive(GOOD, pax(("path", "a")), pax(("path", "b")), Member(b"n", b"x")),
    "pax for nothing": archive(GOOD, pax(("path", "a"))),
    "pax for all": archive(pax(("path", "all"), kind=b"g"), GOOD),
    "pax and long name": archive(GOOD, Member(b"L", b"long\0", b"L"), pax(("path", "a")), Member(b"n", b"x")),
    "huge pax header": archive(GOOD, pax(("comment", "x" * 70_000)), Member(b"n", b"x")),
    "header that claims gigabytes": archive(GOOD, Member(b"h", b"", b"x", size=b"77777777777\0")),
    "long name out": archive(GOOD, Member(b"L", b"../" + b"x" * 120 + b"\0", b"L"), Member(b"n", b"x")),
    "long name enormous": archive(GOOD, Member(b"L", b"x/" * 3000 + b"\0", b"L"), Member(b"n", b"x")),
    "long part": archive(GOOD, Member(b"L", b"x" * 300 + b"\0", b"L"), Member(b"n", b"x")),
    "deep": archive(GOOD, Member(b"L", b"d/" * 70 + b"x\0", b"L"), Member(b"n", b"x")),
    "wrong checksum": archive(GOOD, end=bytes(Member(b"n", b"x")).replace(b"ustar", b"USTAR", 1) + END),
    "cut in a header": archive(GOOD, end=bytes(Member(b"n", b"x"))[:300]),
    "cut in a file": archive(GOOD, end=bytes(Member(b"n", b"x" * 5000))[:3000]),
    "no end": archive(GOOD, end=b""),
    "half an end": archive(GOOD, end=END[:512]),
    "something between the ends": archive(GOOD, end=END[:512] + bytes(Member(b"n", b"x")) + END),
    "garbage after the end": archive(GOOD, end=END + b"x" * 512),
    "endless end": archive(GOOD, end=bytes(4_000_000)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
async def test_an_archive_that_means_harm_or_is_damaged_leaves_nothing(inside: Inside, kind: str) -> None:
    await inside.sh("echo old > there")
    before = await everything(inside)
    with pytest.raises(InvalidInput) as refused:
        await upload(inside, BAD[kind])
    assert [one.field for one in refused.value.fields] == ["data"], refused.value
    assert await everything(inside) == before


async def test_set_id_bits_owners_and_sticky_bits_are_dropped(inside: Inside) -> None:
    await upload(inside, archive(Member(b"tool", b"x", mode=0o7755), Member(b"dir/", b"", b"5", mode=0o7000)))
    user = await inside.user()
    assert (await inside.sh("stat -c '%a %u %g' tool dir")).stdout == f"755 {user} {user}\n700 {user} {user}\n"


async def test_names_are_bytes_and_case_matters(inside: Inside) -> None:
    names = [b"new\nline", b"\xff\xfe", b"a", b"A", b"-rf", b"back\\slash", "日本".encode(), b" "]
    await upload(inside, archive(*(Member(name, name) for name in names)))
    listed = await inside.python("import os\nprint(sorted(os.listdir(b'.')))")
    assert eval(listed.stdout) == sorted(names)
    packed, _end = await download(inside, ".")
    assert sorted(os.fsencode(name) for name in members_of(packed)) == sorted(names)


async def test_files_are_replaced_directories_merged_and_links_never_followed(inside: Inside) -> None:
    await inside.sh(
        "mkdir -p dir/sub outside; echo old > dir/file; echo kept > dir/kept; echo safe > outside/safe; "
        "ln -s outside/safe aimed; ln -s outside linked"
    )
    packed = archive(
        Member(b"dir/", b"", b"5"),
        Member(b"dir/file", b"new\n"),
        Member(b"dir/sub/x", b"x\n"),
        Member(b"aimed", b"here\n"),
    )
    await upload(inside, packed)
    assert (
        await inside.sh("cat dir/file dir/kept dir/sub/x aimed outside/safe")
    ).stdout == "new\nkept\nx\nhere\nsafe\n"
    for clashing in (
        archive(Member(b"a", b"x"), Member(b"dir", b"x")),
        archive(Member(b"a", b"x"), Member(b"dir/file/", b"", b"5")),
        archive(Member(b"a", b"x"), Member(b"linked/x", b"x")),
    ):
        before = await everything(inside)
        with pytest.raises(WrongState, match="no directory|a directory"):
            await upload(inside, clashing)
        assert await everything(inside) == before


async def test_where_it_goes_must_be_a_directory_that_may_be_written_to(inside: Inside) -> None:
    await inside.sh("echo x > file; ln -s /etc out; mkdir shut; chmod 500 shut")
    for where, error in (
        ("file", WrongState),
        ("out", NotPermitted),
        ("/etc", NotPermitted),
        ("..", NotPermitted),
        ("shut", NotPermitted),
    ):
        with pytest.raises(error):
            await upload(inside, archive(GOOD), where)
    with pytest.raises(PortwayError):
        await upload(inside, archive(GOOD), "new/er")
    await upload(inside, archive(GOOD), "new/er", make_parents=True)
    await upload(inside, archive(GOOD), "/tmp")
    assert (await inside.sh("cat new/er/good /tmp/good; chmod 700 shut")).stdout == "goodgood"


async def test_frames_out_of_order_are_refused(inside: Inside) -> None:
    start = file_pb2.UploadRequest(start=file_pb2.UploadStart(directory=inside.path(".")))
    data = file_pb2.UploadRequest(data=archive(GOOD))

    async def send(*frames: file_pb2.UploadRequest) -> None:
        async def each() -> AsyncIterator[file_pb2.UploadRequest]:
            for frame in frames:
                yield frame

        with errors_by_meaning():
            await file_pb2_grpc.FileServiceStub(inside.channel).Upload(each())

    for frames in ((), (data,), (start, start)):
        with pytest.raises(InvalidInput) as refused:
            await send(*frames)
        assert refused.value.reason == Reason.UNEXPECTED_FRAME
    assert await everything(inside) == ""


async def test_an_upload_cancelled_anywhere_leaves_nothing(inside: Inside) -> None:
    stub = file_pb2_grpc.FileServiceStub(inside.channel)
    whole = archive(*(Member(b"f%d" % number, b"x" * 40_000) for number in range(100)))[: -len(END)]

    async def frames() -> AsyncIterator[file_pb2.UploadRequest]:
        yield file_pb2.UploadRequest(start=file_pb2.UploadStart(directory=inside.path(".")))
        for at in range(0, len(whole), 100_000):
            yield file_pb2.UploadRequest(data=whole[at : at + 100_000])
        await asyncio.Event().wait()

    calls = [stub.Upload(frames()) for _ in range(12)]
    for call in calls:
        # Each is cancelled somewhere else on its way.
        await inside.sh("true")
        call.cancel()
    async with asyncio.timeout(60):
        while await everything(inside):
            pass


async def test_a_disk_that_is_full_says_so_and_keeps_nothing(channel: PortwayChannel, box: BoxProcess) -> None:
    limits = session_pb2.SessionLimits(disk_bytes=8 << 20)
    session = await new_session(channel, limits=limits)
    with pytest.raises(LimitExceeded):
        await upload(session, archive(Member(b"big", bytes(20 << 20))))
    assert await everything(session) == ""
    if box.mode == ROOT:
        await session.sh("head -c 6M /dev/zero > fill")
        with pytest.raises(LimitExceeded, match="full"):
            await upload(session, archive(Member(b"big", bytes(5 << 20))))
        assert (await session.sh("ls -A; rm fill")).stdout == "fill\n"
    await upload(session, archive(Member(b"small", bytes(4 << 20))))
    await session.delete()


async def test_too_many_entries_are_refused(inside: Inside) -> None:
    many = b"".join(bytes(Member(b"d%d/" % (number % 10), b"", b"5")) for number in range(200_100)) + END
    with pytest.raises(LimitExceeded, match="entries"):
        await upload(inside, many)
    headers = bytes(pax(("comment", "x"), kind=b"g")) * 201_000 + END
    with pytest.raises(LimitExceeded, match="entries"):
        await upload(inside, headers)
    assert await everything(inside) == ""


async def test_a_download_leaves_out_what_is_no_file_and_keeps_links_as_links(inside: Inside) -> None:
    await inside.python(
        "import os, socket\nos.mkfifo('pipe')\nsocket.socket(socket.AF_UNIX).bind('sock')\n"
        "os.symlink('/etc/passwd', 'link')\nopen('shut', 'w').close(); os.chmod('shut', 0)\n"
        "os.mkdir('closed'); os.chmod('closed', 0)\nopen('file', 'w').write('x')\n"
    )
    packed, end = await download(inside, ".")
    members = members_of(packed)
    assert sorted(members) == ["file", "link"] and members["link"].linkname == "/etc/passwd"
    assert (end.file_count, end.skipped_count) == (1, 4)
    for path in ("pipe", "sock"):
        with pytest.raises(WrongState):
            await download(inside, path)
    with pytest.raises(NotPermitted):
        await download(inside, "link")
    await inside.sh("chmod 700 closed shut")


async def test_files_that_change_while_they_are_packed_keep_the_archive_whole(inside: Inside) -> None:
    program = (
        "import os, itertools\nos.makedirs('tree/sub')\nprint('changing', flush=True)\n"
        "for turn in itertools.count():\n"
        "    for name in range(20):\n"
        "        path = f'tree/sub/{name}'\n"
        "        with open(path, 'wb') as file: file.write(b'x' * (turn * 977 % 400_000))\n"
        "        os.truncate(path, turn * 31 % 5000)\n"
        "        if turn % 3 == 0: os.unlink(path)\n"
        "        if turn % 5 == 0 and not os.path.lexists(path): os.symlink('/etc/passwd', path); os.unlink(path)\n"
    )
    await inside.write("change.py", program.encode())
    call = await begin(inside, "exec /usr/bin/python3 change.py")
    await until_said(call, b"changing")
    seen = turn = 0
    while turn < 40 or not seen:
        turn += 1
        packed, end = await download(inside, "tree")
        members = members_of(packed)
        assert sum(1 for member in members.values() if member.isreg()) == end.file_count
        assert not any(b"root:" in content_of(packed, name) for name, one in members.items() if one.isreg())
        seen += end.file_count
    call.cancel()


async def test_a_directory_swapped_for_a_link_is_never_followed(inside: Inside, box: BoxProcess) -> None:
    secret = box.folder / "outside.txt"
    secret.write_text("contents from outside the session")
    secret.chmod(0o644)
    call = await begin(inside, f"exec /usr/bin/python3 -c '{FLIP_LINKS}' {box.folder}")
    await until_said(call, b"flipping")
    found = 0
    for turn in range(150):
        packed, _end = await download(inside, ".")
        assert b"contents from outside" not in packed
        found += b"inside\n" in packed
        try:
            await upload(inside, archive(Member(b"place/up%d" % turn, b"x")))
        except PortwayError as error:
            assert isinstance(error, WrongState | NotPermitted | InvalidInput), error
    call.cancel()
    assert found > 0
    assert not list(box.folder.glob("up*"))


async def test_a_download_that_nobody_reads_holds_only_itself_up(inside: Inside) -> None:
    await inside.sh("head -c 60M /dev/zero > big")
    stub = file_pb2_grpc.FileServiceStub(inside.channel)
    calls = [stub.Download(file_pb2.DownloadRequest(file=inside.path("big"))) for _ in range(20)]
    for call in calls:
        first = await call.read()
        assert isinstance(first, file_pb2.DownloadResponse) and first.data
    assert await inside.read("big", 0, 10) == bytes(10)
    for call in calls:
        call.cancel()
    await until(lambda: all(call.done() for call in calls))
    packed, _end = await download(inside, "big")
    assert len(content_of(packed, "big")) == 60 << 20


async def test_the_clients_helpers_copy_a_folder_there_and_back(
    box: BoxProcess, inside: Inside, tmp_path: Path
) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "big").write_bytes(os.urandom(2_000_000))
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")
    os.mkfifo(source / "pipe")
    target.mkdir()
    async with Box(box.address, token=box.tokens["admin"].text) as client:
        answer = await client.upload(inside.session_id, "copied", pack(source), make_parents=True)
        assert (answer.file_count, answer.link_count) == (2, 1)
        await inside.sh("ln -s /etc/passwd copied/out")
        taken = await unpack(client.download(inside.session_id, "copied"), target)
        assert (taken.files, taken.skipped) == (2, ("out",))
        await client.upload(inside.session_id, ".", pack(source / "run.sh", "named.sh"))
        with pytest.raises(PortwayError):
            await unpack(client.download(inside.session_id, "nothing"), target)
        with pytest.raises(FileNotFoundError):
            await client.upload(inside.session_id, ".", pack(tmp_path / "nothing"))
    assert (target / "sub" / "big").read_bytes() == (source / "sub" / "big").read_bytes()
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755 and os.readlink(target / "link") == "run.sh"
    assert await inside.read("named.sh") == b"#!/bin/sh\n"
