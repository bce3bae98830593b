"""Files: what is beneath the mounts and nothing else, whole or not at all."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import (
    DeadlineExceeded,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    OutOfRange,
    PortwayError,
    Reason,
    Stale,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.v1 import file_pb2, file_pb2_grpc
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, new_session, until_said
from tests.box.programs import FLIP_LINKS

OUTSIDE = "contents from outside the session"


async def test_what_is_written_is_read_and_seen_by_commands(inside: Inside) -> None:
    data = os.urandom(3_000_000)
    answer = await inside.write(
        "dir/file.bin", *(data[at : at + 700_000] for at in range(0, len(data), 700_000)), make_parents=True
    )
    assert answer.sha256 == hashlib.sha256(data).hexdigest()
    assert (answer.file.path, answer.file.size, answer.file.mode) == ("/workspace/dir/file.bin", len(data), 0o644)
    assert await inside.read("dir/file.bin") == data
    result = await inside.sh("sha256sum dir/file.bin; stat -c %u dir/file.bin; echo more >> dir/file.bin; echo $?")
    assert result.stdout.split() == [answer.sha256, "dir/file.bin", await inside.user(), "0"]


async def test_ranges_are_read_and_one_past_the_end_is_refused(inside: Inside) -> None:
    await inside.write("digits", b"0123456789")
    assert await inside.read("digits", 3, 4) == b"3456"
    assert await inside.read("digits", 8) == b"89"
    assert await inside.read("digits", 10) == b""
    assert await inside.read("digits", 5, 100) == b"56789"
    with pytest.raises(OutOfRange):
        await inside.read("digits", 11)


async def test_a_write_that_was_not_ended_changes_nothing(inside: Inside) -> None:
    await inside.write("file", b"old")
    begun = asyncio.Event()

    async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
        start = file_pb2.WriteFileStart(file=inside.path("file"))
        yield file_pb2.WriteFileRequest(start=start)
        yield file_pb2.WriteFileRequest(data=b"new")
        begun.set()
        await asyncio.Event().wait()

    call = file_pb2_grpc.FileServiceStub(inside.channel).WriteFile(frames())
    await begun.wait()
    call.cancel()
    assert (await inside.sh("cat file; ls -A")).stdout.startswith("old")
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(60):
        while (await inside.sh("ls -A")).stdout != "file\n":
            pass


async def test_writes_cancelled_at_any_moment_leave_no_piece(inside: Inside) -> None:
    stub = file_pb2_grpc.FileServiceStub(inside.channel)
    start = file_pb2.WriteFileRequest(start=file_pb2.WriteFileStart(file=inside.path("file")))

    async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
        yield start
        for _ in range(50):
            yield file_pb2.WriteFileRequest(data=b"x" * 500_000)
        await asyncio.Event().wait()

    calls = [stub.WriteFile(frames()) for _ in range(30)]
    for call in calls:
        # Each is cancelled somewhere else on its way.
        await inside.sh("true")
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(120):
        while (await inside.sh("ls -A")).stdout:
            pass
    assert not (await inside.sh("ls -A")).stdout


async def test_an_expected_digest_guards_against_lost_updates(inside: Inside) -> None:
    first = await inside.write("file", b"one")
    await inside.write("file", b"two", expected_sha256=first.sha256)
    with pytest.raises(Stale):
        await inside.write("file", b"three", expected_sha256=first.sha256)
    assert await inside.read("file") == b"two"


async def test_the_mode_is_set_and_kept(inside: Inside) -> None:
    await inside.write("script", b"#!/bin/sh\necho ran\n", mode=0o755)
    assert (await inside.argv("/workspace/script")).stdout == "ran\n"
    assert (await inside.write("script", b"#!/bin/sh\necho again\n")).file.mode == 0o755
    assert (await inside.argv("/workspace/script")).stdout == "again\n"


async def test_an_edit_needs_exactly_one_place(inside: Inside) -> None:
    await inside.write("text", "eins zwei zwei drei 你好\n".encode())

    def edit(old: str, new: str, everywhere: bool = False) -> file_pb2.EditFileRequest:
        return file_pb2.EditFileRequest(file=inside.path("text"), old_text=old, new_text=new, replace_all=everywhere)

    assert (await ask(inside.channel, edit("eins", "one"))).replaced_count == 1
    with pytest.raises(WrongState, match="occurs 2 times"):
        await ask(inside.channel, edit("zwei", "two"))
    with pytest.raises(WrongState, match="does not occur"):
        await ask(inside.channel, edit("vier", "four"))
    assert (await ask(inside.channel, edit("zwei", "two", True))).replaced_count == 2
    assert (await inside.read("text")).decode() == "one two two drei 你好\n"
    await inside.write("text", b"\xff\xfe")
    with pytest.raises(WrongState, match="UTF-8"):
        await ask(inside.channel, edit("a", "b"))


async def test_glob_finds_by_pattern(inside: Inside) -> None:
    await inside.sh(
        "mkdir -p a/b/.hidden c; touch a/one.py a/b/two.py a/b/.hidden/three.py c/four.txt five.py 'odd [1].py'"
    )

    async def glob(pattern: str, directory: str = ".", limit: int = 0) -> list[str]:
        request = file_pb2.GlobRequest(directory=inside.path(directory), pattern=pattern, limit=limit)
        return [file.path.removeprefix("/workspace/") for file in (await ask(inside.channel, request)).files]

    assert await glob("*.py") == ["five.py", "odd [1].py"]
    assert await glob("**/*.py") == ["a/b/two.py", "a/one.py", "five.py", "odd [1].py"]
    assert await glob("a/*/*.py") == ["a/b/two.py"]
    assert await glob("**/.hidden/*") == ["a/b/.hidden/three.py"]
    assert await glob("?.py", "a") == []
    assert await glob("[of]*.py") == ["five.py", "odd [1].py"]
    assert await glob("**") == ["a", "a/b", "a/b/two.py", "a/one.py", "c", "c/four.txt", "five.py", "odd [1].py"]
    assert len(await glob("**/*.py", limit=2)) == 2
    for wrong in ("/etc/*", "../*", "a/../../*"):
        with pytest.raises(InvalidInput):
            await glob(wrong)


async def test_grep_finds_lines(inside: Inside) -> None:
    await inside.sh(
        "mkdir d; printf 'Alpha\\nbeta\\nalphabet\\n' > d/a.txt; echo 'alpha' > d/b.py; printf 'alpha\\0' > d/c.bin"
    )

    async def grep(pattern: str, **options: object) -> list[tuple[str, int, str]]:
        request = file_pb2.GrepRequest(root=inside.path("."), pattern=pattern, **options)  # type: ignore[arg-type]
        found = (await ask(inside.channel, request)).matches
        return [(one.path.removeprefix("/workspace/"), one.line_number, one.line) for one in found]

    assert await grep("^alpha") == [("d/a.txt", 3, "alphabet"), ("d/b.py", 1, "alpha")]
    assert await grep("ALPHA$", ignore_case=True) == [("d/a.txt", 1, "Alpha"), ("d/b.py", 1, "alpha")]
    assert await grep("alpha", include="*.py") == [("d/b.py", 1, "alpha")]
    assert len(await grep("a", limit=1)) == 1
    with pytest.raises(InvalidInput, match="regular expression"):
        await grep("(")


async def test_an_expression_that_takes_for_ever_is_stopped(inside: Inside) -> None:
    await inside.write("aaa", b"a" * 5000 + b"!\n")
    request = file_pb2.GrepRequest(root=inside.path("."), pattern=r"^(a|a|aa)+$")
    with pytest.raises(DeadlineExceeded):
        await ask(inside.channel, request)
    assert (await inside.sh("echo still")).stdout == "still\n"


async def test_a_directory_is_listed_in_pages_by_name(inside: Inside) -> None:
    await inside.sh("for each in $(seq -w 1 25); do touch f$each; done; mkdir d; ln -s f01 link; mkfifo pipe")
    names: list[str] = []
    token = ""
    while True:
        request = file_pb2.ListDirectoryRequest(directory=inside.path("."), page_size=10, page_token=token)
        page = await ask(inside.channel, request)
        names += [file.path for file in page.files]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(names)
    assert len(names) == 28
    types = {file.path: file.type for file in page.files}
    assert types["/workspace/link"] == file_pb2.FILE_TYPE_LINK
    assert types["/workspace/pipe"] == file_pb2.FILE_TYPE_UNSPECIFIED
    with pytest.raises(InvalidInput):
        await ask(inside.channel, file_pb2.ListDirectoryRequest(directory=inside.path("d"), page_token="forged"))


async def test_removing_counts_and_does_not_follow_links(inside: Inside) -> None:
    await inside.sh("mkdir -p keep tree/a/b; touch keep/me tree/1 tree/a/2 tree/a/b/3; ln -s ../keep tree/a/link")

    def remove(path: str, recursive: bool = False) -> file_pb2.RemoveRequest:
        return file_pb2.RemoveRequest(file=inside.path(path), recursive=recursive)

    with pytest.raises(WrongState, match="not empty"):
        await ask(inside.channel, remove("tree"))
    assert (await ask(inside.channel, remove("tree", True))).removed_count == 7
    assert (await inside.sh("ls keep")).stdout == "me\n"
    with pytest.raises(NotFound):
        await ask(inside.channel, remove("tree", True))
    for root in ("/workspace", ".", "/tmp", "keep/.."):
        with pytest.raises(InvalidInput):
            await ask(inside.channel, remove(root, True))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/", "/proc/self/environ", "/usr/bin/sh", "/workspace2/x", "../etc/passwd", "..", "/dev/null",
        "/workspace/../etc/passwd", "a/../../etc/passwd", "/tmp/../workspace/../etc/passwd", "//etc/passwd",
        "/workspace/..",
    ],
)  # fmt: skip
async def test_a_path_out_of_the_mounts_is_refused(inside: Inside, path: str) -> None:
    await inside.sh("mkdir -p a")
    for work in (
        inside.read(path),
        inside.write(path, b"x"),
        ask(inside.channel, file_pb2.StatRequest(file=inside.path(path))),
    ):
        with pytest.raises((NotPermitted, InvalidInput)):
            await work


@pytest.mark.parametrize("path", ["", "\0", "a\0b", "x" * 5000])
async def test_what_is_no_path_is_refused(inside: Inside, path: str) -> None:
    with pytest.raises(InvalidInput):
        await inside.read(path)


@pytest.mark.parametrize("path", ["n" * 300, "./" * 2000 + "x", "/workspace//./file", "dir/", "日本語", "-rf", "a\nb"])
async def test_odd_paths_never_break_anything(inside: Inside, path: str) -> None:
    await inside.sh("mkdir dir; echo hi > file")
    try:
        await inside.read(path)
    except PortwayError as error:
        assert isinstance(error, NotFound | InvalidInput | WrongState)


async def test_links_are_followed_inside_and_refused_where_they_lead_out(inside: Inside, box: BoxProcess) -> None:
    (box.folder / "outside.txt").write_text(OUTSIDE)
    await inside.sh(
        "echo in > real; ln -s real good; ln -s /etc/passwd absolute; ln -s ../../../../../../etc/passwd relative; "
        f"ln -s {box.folder}/outside.txt host; ln -s /proc/self/root/etc/passwd magic; ln -s loop loop; ln -s / top; "
        "ln -s /proc/1/fd/0 fd; mkdir sub; ln -s .. sub/up"
    )
    assert await inside.read("good") == b"in\n"
    assert await inside.read("sub/up/real") == b"in\n"
    for path in ("absolute", "relative", "host", "magic", "loop", "top/etc/passwd", "fd", "top/workspace/real"):
        with pytest.raises(NotPermitted):
            await inside.read(path)
        with pytest.raises((NotPermitted, WrongState)):
            await inside.write(path, b"x")
    for path in ("top", "sub/up/top", "relative"):
        request = file_pb2.GlobRequest(directory=inside.path(path), pattern="**")
        with pytest.raises((NotPermitted, WrongState)):
            await ask(inside.channel, request)
    everything = await ask(inside.channel, file_pb2.GrepRequest(root=inside.path("."), pattern="root|outside"))
    assert not everything.matches


async def test_a_link_swapped_under_the_reader_never_leaks(inside: Inside, box: BoxProcess) -> None:
    secret = box.folder / "outside.txt"
    secret.write_text(OUTSIDE)
    secret.chmod(0o644)
    call = await begin(inside, f"exec /usr/bin/python3 -c '{FLIP_LINKS}' {box.folder}")
    await until_said(call, b"flipping")
    good = refused = 0
    for _ in range(1500):
        try:
            content = await inside.read("place/outside.txt")
        except PortwayError as error:
            assert isinstance(error, NotFound | NotPermitted | WrongState)
            refused += 1
        else:
            assert content == b"inside\n"
            good += 1
    call.cancel()
    assert good > 0
    assert refused > 0


async def test_pipes_sockets_and_devices_are_no_files_and_hold_nobody_up(inside: Inside) -> None:
    await inside.python(
        "import os, socket\nos.mkfifo('pipe')\nsocket.socket(socket.AF_UNIX).bind('sock')\nos.mkdir('dir')\n"
    )
    for path in ("pipe", "sock", "dir"):
        with pytest.raises(WrongState):
            await inside.read(path)
        with pytest.raises(WrongState):
            await inside.write(path, b"x")


async def test_the_sessions_user_may_refuse_its_own_files(inside: Inside) -> None:
    await inside.sh("echo secret > locked; chmod 000 locked; mkdir shut; chmod 000 shut")
    with pytest.raises(NotPermitted):
        await inside.read("locked")
    with pytest.raises(NotPermitted):
        await inside.write("shut/new", b"x")
    await inside.sh("chmod 700 shut")


async def test_a_large_frame_and_frames_out_of_order_are_refused(inside: Inside) -> None:
    stub = file_pb2_grpc.FileServiceStub(inside.channel)

    async def send(*frames: file_pb2.WriteFileRequest) -> None:
        async def all_of_them() -> AsyncIterator[file_pb2.WriteFileRequest]:
            for frame in frames:
                yield frame

        with errors_by_meaning():
            await stub.WriteFile(all_of_them())

    start = file_pb2.WriteFileRequest(start=file_pb2.WriteFileStart(file=inside.path("f")))
    with pytest.raises(InvalidInput):
        await send()
    with pytest.raises(InvalidInput) as caught:
        await send(file_pb2.WriteFileRequest(data=b"x"))
    assert caught.value.reason == Reason.UNEXPECTED_FRAME
    with pytest.raises(InvalidInput):
        await send(start, start)
    with pytest.raises((InvalidInput, LimitExceeded)):
        await send(start, file_pb2.WriteFileRequest(data=b"x" * 1_048_577))
    assert (await inside.sh("ls -A")).stdout == ""


async def test_a_deep_tree_and_many_files_are_searched_within_limits(inside: Inside) -> None:
    await inside.python(
        "import os\nos.makedirs('d/' * 200)\nos.makedirs('many')\n"
        "for number in range(5000): open(f'many/{number}', 'w').write('needle')\n"
    )
    request = file_pb2.GrepRequest(root=inside.path("."), pattern="needle", limit=100)
    answer = await ask(inside.channel, request)
    assert (len(answer.matches), answer.truncated) == (100, True)
    listing = await ask(inside.channel, file_pb2.GlobRequest(directory=inside.path("."), pattern="**", limit=10))
    assert (len(listing.files), listing.truncated) == (10, True)
    with pytest.raises(WrongState, match="nested too deeply"):
        await inside.python("import os\nfor _ in range(400):\n    os.makedirs('e', exist_ok=True); os.chdir('e')")
        await ask(inside.channel, file_pb2.RemoveRequest(file=inside.path("e"), recursive=True))


async def test_two_sessions_have_their_own_files(channel: PortwayChannel, inside: Inside) -> None:
    other = await new_session(channel)
    await inside.write("mine", b"mine")
    with pytest.raises(NotFound):
        await other.read("mine")
    await other.delete()


async def test_names_that_are_no_text_are_listed_page_by_page(inside: Inside) -> None:
    await inside.python("import os\nfor number in range(6): open(b'\\xff\\xfe%d' % number, 'w').close()")
    found: list[str] = []
    token = ""
    while True:
        request = file_pb2.ListDirectoryRequest(directory=inside.path("."), page_size=4, page_token=token)
        page = await ask(inside.channel, request)
        found += [file.path for file in page.files]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"/workspace/\ufffd\ufffd{number}" for number in range(6)]
    listing = await ask(inside.channel, file_pb2.GlobRequest(directory=inside.path("."), pattern="*"))
    assert len(listing.files) == 6
    assert (await ask(inside.channel, file_pb2.GrepRequest(root=inside.path("."), pattern="x"))).matches == []


async def test_a_session_deleted_under_file_work_shows_no_other_session(channel: PortwayChannel) -> None:
    async def churn(number: int) -> None:
        session = await new_session(channel)
        await session.write("own", b"%d" % number)
        work = [asyncio.create_task(session.read("own")) for _ in range(10)]
        deleting = asyncio.create_task(session.delete())
        for one in await asyncio.gather(*work, return_exceptions=True):
            assert one == b"%d" % number or isinstance(one, PortwayError), one
        await deleting

    for _ in range(5):
        await asyncio.gather(*(churn(number) for number in range(8)))


async def test_a_name_that_is_too_long_is_refused_by_its_field(inside: Inside) -> None:
    file = file_pb2.FilePath(session_id=inside.session_id, workspace_id="default", path="/workspace/" + "é" * 200)
    with pytest.raises(InvalidInput) as refused:
        await ask(inside.channel, file_pb2.StatRequest(file=file))
    assert [one.field for one in refused.value.fields] == ["path"]
