"""Files that are many, large or oddly named."""

import asyncio

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import DeadlineExceeded, InvalidInput, LimitExceeded, NotFound, NotPermitted
from portway.v1 import file_pb2, session_pb2
from tests.asking import ask
from tests.box.inside import Inside, new_session


async def test_names_that_are_no_text_can_be_given_back(inside: Inside) -> None:
    await inside.python("open(b'\\xff name', 'w').write('needle')")
    listed = await ask(inside.channel, file_pb2.ListDirectoryRequest(directory=inside.path(".")))
    (found,) = listed.files
    assert (found.path, found.raw_path) == ("/workspace/\ufffd name", b"/workspace/\xff name")
    matches = (await ask(inside.channel, file_pb2.GrepRequest(root=inside.path("."), pattern="needle"))).matches
    assert [one.raw_path for one in matches] == [found.raw_path]
    named = file_pb2.FilePath(session_id=inside.session_id, path=found.path, raw_path=found.raw_path)
    assert (await ask(inside.channel, file_pb2.StatRequest(file=named))).file.size == 6
    edited = file_pb2.EditFileRequest(file=named, old_text="needle", new_text="pin")
    assert (await ask(inside.channel, edited)).file.raw_path == found.raw_path
    for raw in (b"\xff\x00", b"\xff" * 5000, b"../\xff", b"/etc/\xff"):
        wrong = file_pb2.FilePath(session_id=inside.session_id, path="x", raw_path=raw)
        with pytest.raises((InvalidInput, NotPermitted)):
            await ask(inside.channel, file_pb2.StatRequest(file=wrong))
    with pytest.raises(NotFound) as missing:
        named.raw_path = b"/workspace/\xfe"
        await ask(inside.channel, file_pb2.StatRequest(file=named))
    assert "\ufffd" in missing.value.message
    assert (
        await ask(
            inside.channel,
            file_pb2.RemoveRequest(
                file=file_pb2.FilePath(session_id=inside.session_id, path=found.path, raw_path=found.raw_path)
            ),
        )
    ).removed_count == 1


async def test_text_replaced_everywhere_never_makes_a_file_grow_without_bound(inside: Inside) -> None:
    await inside.write("a", *[b"a" * (1 << 20)] * 4)
    request = file_pb2.EditFileRequest(file=inside.path("a"), old_text="a", new_text="b" * 900_000, replace_all=True)
    with pytest.raises(LimitExceeded):
        await ask(inside.channel, request)
    assert (await inside.sh("stat -c %s a; ls -A")).stdout == f"{4 << 20}\na\n"


async def test_a_directory_of_very_many_entries_is_listed_page_by_page(channel: PortwayChannel) -> None:
    limits = session_pb2.SessionLimits(disk_bytes=2 << 30)
    session = await new_session(channel, limits=limits)
    await session.python("import os\nos.mkdir('many')\nfor number in range(120_000): os.mknod(f'many/{number:06}')")
    seen: list[str] = []
    token = ""
    for _ in range(3):
        request = file_pb2.ListDirectoryRequest(directory=session.path("many"), page_size=1000, page_token=token)
        page = await ask(session.channel, request)
        seen += [file.path for file in page.files]
        token = page.next_page_token
    assert seen == [f"/workspace/many/{number:06}" for number in range(3000)] and token
    await session.delete()


async def test_a_flood_of_searches_that_never_end_is_refused_and_holds_no_command_up(inside: Inside) -> None:
    await inside.write("text", b"a" * 60 + b"!\n")
    bomb = file_pb2.GrepRequest(root=inside.path("."), pattern="^(a|aa|a+)+$")
    searches = [asyncio.create_task(ask(inside.channel, bomb)) for _ in range(60)]
    assert (await inside.sh("echo here")).stdout == "here\n"
    ended = await asyncio.gather(*searches, return_exceptions=True)
    refused = [one for one in ended if isinstance(one, LimitExceeded)]
    assert len(refused) >= 60 - 2 * 16 and all(isinstance(one, LimitExceeded | DeadlineExceeded) for one in ended), (
        ended
    )
    plain = file_pb2.GrepRequest(root=inside.path("."), pattern="a!")
    assert len((await ask(inside.channel, plain)).matches) == 1
