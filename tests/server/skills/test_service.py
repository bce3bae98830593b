"""SkillService over the wire: skills, their files, and zips of good and bad people."""

import asyncio
import io
import json
import os
import stat
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutOfRange,
    PayloadTooLarge,
    PortwayError,
    Stale,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.v1 import skill_pb2, skill_pb2_grpc, workspace_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRuntime
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, hosted

DOCUMENT = "---\nname: {name}\ndescription: For tests.\nversion: '2'\n---\n\nDo {name}.\n"


def document(name: str) -> bytes:
    return DOCUMENT.format(name=name).encode()


def a_zip(files: dict[str, bytes], *more: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        for info, content in more:
            archive.writestr(info, content)
    return packed.getvalue()


async def install(
    channel: PortwayChannel, packed: bytes, folder: str = "", suffix: str = ""
) -> Sequence[skill_pb2.Skill]:
    async def frames() -> AsyncIterator[skill_pb2.InstallSkillZipRequest]:
        yield skill_pb2.InstallSkillZipRequest(source_folder=folder, target_suffix=suffix)
        for at in range(0, len(packed), 1 << 20):
            yield skill_pb2.InstallSkillZipRequest(data=packed[at : at + (1 << 20)])

    with errors_by_meaning():
        answer = await skill_pb2_grpc.SkillServiceStub(channel).InstallSkillZip(frames())
    return answer.skills


async def preview(channel: PortwayChannel, packed: bytes, suffix: str = "") -> skill_pb2.PreviewSkillZipResponse:
    frames = [skill_pb2.PreviewSkillZipRequest(data=packed, target_suffix=suffix)]
    with errors_by_meaning():
        return await skill_pb2_grpc.SkillServiceStub(channel).PreviewSkillZip(iter(frames))


async def write(channel: PortwayChannel, name: str, path: str, content: bytes) -> skill_pb2.SkillFile:
    frames = [skill_pb2.WriteSkillFileRequest(name=name, path=path)]
    frames += [
        skill_pb2.WriteSkillFileRequest(data=content[at : at + 999_999]) for at in range(0, len(content), 999_999)
    ]
    with errors_by_meaning():
        return (await skill_pb2_grpc.SkillServiceStub(channel).WriteSkillFile(iter(frames))).file


async def read(channel: PortwayChannel, name: str, path: str, offset: int = 0) -> bytes:
    request = skill_pb2.ReadSkillFileRequest(name=name, path=path, offset=offset)
    with errors_by_meaning():
        return b"".join([piece.data async for piece in skill_pb2_grpc.SkillServiceStub(channel).ReadSkillFile(request)])


async def create(channel: PortwayChannel, name: str, request_id: str = "") -> skill_pb2.Skill:
    wanted = skill_pb2.Skill(name=name, description="What it is for.", instructions="Do this.\n\nThen that.")
    answer = await ask(channel, skill_pb2.CreateSkillRequest(skill=wanted, request_id=request_id))
    made: skill_pb2.Skill = answer.skill
    return made


async def test_a_skill_is_made_read_changed_and_removed(served: Hosted) -> None:
    channel = served.channel
    made = await create(channel, "writing", "once")
    assert await create(channel, "writing", "once") == made
    with pytest.raises(Conflict):
        await create(channel, "writing")
    assert (made.revision, made.source, made.instructions) == (1, "api", "Do this.\n\nThen that.")
    made.description, made.instructions = "Other: \"quoted\" — and 'so' on", "Do something else."
    changed = (await ask(channel, skill_pb2.UpdateSkillRequest(skill=made))).skill
    assert changed.revision == 2 and changed.digest != made.digest
    assert (changed.description, changed.instructions) == (made.description, "Do something else.")
    with pytest.raises(Stale):
        await ask(channel, skill_pb2.UpdateSkillRequest(skill=made))
    assert b"Do something else." in await read(channel, "writing", "SKILL.md")
    await ask(channel, skill_pb2.DeleteSkillRequest(name="writing"))
    with pytest.raises(NotFound):
        await ask(channel, skill_pb2.GetSkillRequest(name="writing"))
    with pytest.raises(NotFound):
        await read(channel, "writing", "SKILL.md")


async def test_pages_of_skills_and_files_go_by_name(served: Hosted) -> None:
    channel = served.channel
    for name in ("c", "a", "b"):
        await create(channel, name)
    for path in ("z.txt", "lib/one.py", "lib/two.py"):
        await write(channel, "a", path, path.encode())
    first = await ask(channel, skill_pb2.ListSkillsRequest(page_size=2))
    rest = await ask(channel, skill_pb2.ListSkillsRequest(page_size=2, page_token=first.next_page_token))
    assert [one.name for one in (*first.skills, *rest.skills)] == ["a", "b", "c"] and not rest.next_page_token
    page = await ask(channel, skill_pb2.ListSkillFilesRequest(name="a", page_size=3))
    more = await ask(channel, skill_pb2.ListSkillFilesRequest(name="a", page_token=page.next_page_token))
    assert [one.path for one in (*page.files, *more.files)] == ["SKILL.md", "lib/one.py", "lib/two.py", "z.txt"]
    with pytest.raises(InvalidInput):
        await ask(channel, skill_pb2.ListSkillFilesRequest(name="b", page_token=page.next_page_token))


async def test_files_are_written_whole_and_read_from_an_offset(served: Hosted) -> None:
    channel = served.channel
    await create(channel, "tools")
    content = bytes(range(256)) * 5000
    written = await write(channel, "tools", "data/bytes.bin", content)
    assert written.size == len(content)
    assert await read(channel, "tools", "data/bytes.bin", 1_000_000) == content[1_000_000:]
    assert await read(channel, "tools", "data/bytes.bin", len(content)) == b""
    with pytest.raises(OutOfRange):
        await read(channel, "tools", "data/bytes.bin", len(content) + 1)
    await write(channel, "tools", "SKILL.md", document("tools"))
    skill = (await ask(channel, skill_pb2.GetSkillRequest(name="tools"))).skill
    assert (skill.description, skill.version, skill.instructions) == ("For tests.", "2", "Do tools.")
    assert skill.revision == 3


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../../b",
        "a//b",
        ".",
        "a/.",
        "..",
        "",
        "a\\b",
        "c:x",
        "a\0b",
        "a/" * 20 + "b",
        "x ",
        "é" * 600,
    ],
)
async def test_a_path_that_leads_out_or_cannot_be_is_refused(served: Hosted, path: str) -> None:
    await create(served.channel, "tools")
    with pytest.raises(InvalidInput):
        await write(served.channel, "tools", path, b"content")
    files = await ask(served.channel, skill_pb2.ListSkillFilesRequest(name="tools"))
    assert [one.path for one in files.files] == ["SKILL.md"]


async def test_a_file_that_would_be_a_folder_and_two_spellings_of_one_are_refused(served: Hosted) -> None:
    await create(served.channel, "tools")
    await write(served.channel, "tools", "lib/a", b"content")
    for clashing in ("lib", "LIB/A", "lib/a/b"):
        with pytest.raises(InvalidInput, match="clash|folder"):
            await write(served.channel, "tools", clashing, b"content")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no front matter", "front matter"),
        (b"---\nname: x\n", "not closed"),
        (b"---\nname: x\n---\n", "description"),
        (b"---\nname: ../x\ndescription: d\n---\n", "letters"),
        (b"---\nname: other\ndescription: d\n---\n", "another skill"),
        (b"---\na: &a [x, x]\nb: *a\n---\n", "anchors"),
        (b"---\n- x\n---\n", "key: value"),
        (b"---\n{{{\n---\n", "YAML"),
        (b"\xff\xfe", "UTF-8"),
        (b"---\nname: {a: b}\ndescription: d\n---\n", "not a text"),
        (b"---\nname: x\ndescription: " + b"1" * 5000 + b"\n---\n", "YAML"),
        (b"---\nname: x\ndescription: 2024-99-99\n---\n", "YAML"),
        (b"---\nname: x\ndescription: !!int nonsense\n---\n", "YAML"),
        (b'---\nname: x\ndescription: "a\\ud800b"\n---\n', "no text"),
        (b'---\nname: x\ndescription: "a\\0b"\n---\n', "no text"),
        (b"---\n" + b"[" * 20_000 + b"\n---\n", "YAML"),
        (b"---\n" + b"{a: " * 5_000 + b"\n---\n", "YAML"),
        (b"---\nx: " + b"y" * 40_000 + b"\n---\n", "longer"),
        (b"x" * 300_000, "bytes"),
        (b"---\nx: !!python/object/apply:os.system ['id']\n---\n", "YAML"),
    ],
)
async def test_a_document_that_says_nothing_good_is_refused_with_its_reason(
    served: Hosted, content: bytes, why: str
) -> None:
    made = await create(served.channel, "tools")
    with pytest.raises(InvalidInput, match=why):
        await write(served.channel, "tools", "SKILL.md", content)
    assert (await ask(served.channel, skill_pb2.GetSkillRequest(name="tools"))).skill == made


async def test_a_zip_is_previewed_and_installed_all_or_nothing(served: Hosted) -> None:
    channel = served.channel
    script = zipfile.ZipInfo("pack/one/run.sh")
    script.external_attr = (stat.S_IFREG | 0o755) << 16
    packed = a_zip(
        {"pack/one/SKILL.md": document("one"), "pack/two/SKILL.md": document("two"), "pack/README.md": b"x",
         "pack/two/deep/SKILL.md": document("inner"), "__MACOSX/pack/._one": b"x"},
        (script, b"#!/bin/sh\n"),
    )  # fmt: skip
    shown = await preview(channel, packed)
    assert [one.name for one in shown.skills] == ["one", "two"] and not shown.conflicts
    assert sorted(one.path for one in shown.files) == [
        "one/SKILL.md", "one/run.sh", "two/SKILL.md", "two/deep/SKILL.md",
    ]  # fmt: skip
    assert not (await ask(channel, skill_pb2.ListSkillsRequest())).skills
    assert [one.name for one in await install(channel, packed, "pack/two")] == ["two"]
    assert list((await preview(channel, packed)).conflicts) == ["two"]
    with pytest.raises(Conflict, match="'two'"):
        await install(channel, packed)
    assert [one.name for one in (await ask(channel, skill_pb2.ListSkillsRequest())).skills] == ["two"]
    assert sorted(one.name for one in await install(channel, packed, suffix="-new")) == ["one", "two-new"]
    files = await ask(channel, skill_pb2.ListSkillFilesRequest(name="one"))
    assert {one.path: one.executable for one in files.files} == {"SKILL.md": False, "run.sh": True}
    renamed = (await ask(channel, skill_pb2.GetSkillRequest(name="two-new"))).skill
    assert renamed.instructions == "Do two." and b"two-new" in await read(channel, "two-new", "SKILL.md")


def link(path: str, kind: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(path)
    info.external_attr = (kind | 0o777) << 16
    return info, b"/etc/passwd"


def bomb() -> bytes:
    """10 files of 8 MiB, and each a few KiB in the zip."""
    return a_zip({"SKILL.md": document("bomb"), **{f"{number}.bin": bytes(8 << 20) for number in range(10)}})


def liar() -> bytes:
    """An entry that unpacks to more than it says."""
    packed = bytearray(a_zip({"SKILL.md": document("liar"), "big.bin": bytes(9 << 20)}))
    size = (9 << 20).to_bytes(4, "little")
    return bytes(packed.replace(size, (1000).to_bytes(4, "little")))


SKILL = {"SKILL.md": document("bad")}


def overlapping() -> bytes:
    """Two entries of the directory that stand for the same bytes."""
    packed = a_zip({**SKILL, "a.bin": os.urandom(5000)})
    at = packed.index(b"PK\1\2")
    end = packed.index(b"PK\5\6")
    first = packed[at:end]
    second = first[first.index(b"PK\1\2", 4) :].replace(b"a.bin", b"b.bin")
    tail = bytearray(packed[end:])
    for place in (8, 10):
        tail[place : place + 2] = (3).to_bytes(2, "little")
    tail[12:16] = (len(first) + len(second)).to_bytes(4, "little")
    return packed[:end] + second + bytes(tail)


def wrong_sum() -> bytes:
    packed = bytearray(a_zip({**SKILL, "a.bin": b"x" * 100}))
    with zipfile.ZipFile(io.BytesIO(bytes(packed))) as read:
        entry = read.getinfo("a.bin")
    return bytes(packed.replace(entry.CRC.to_bytes(4, "little"), b"\1\2\3\4"))


def other_name_inside() -> bytes:
    """The directory and the entry itself disagree about the name."""
    packed = bytearray(a_zip({**SKILL, "good": b"x"}))
    at = packed.index(b"good")
    packed[at : at + 4] = b"evil"
    return bytes(packed)


def encrypted() -> bytes:
    packed = bytearray(a_zip({**SKILL, "a": b"x"}))
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = packed.rindex(mark)
        packed[at + place] |= 1
    return bytes(packed)


def zip64() -> bytes:
    packed = a_zip(SKILL)
    end = packed.index(b"PK\5\6")
    record = b"PK\6\6" + (44).to_bytes(8, "little") + bytes(44)
    locator = b"PK\6\7" + bytes(4) + end.to_bytes(8, "little") + (1).to_bytes(4, "little")
    return packed[:end] + record + locator + packed[end:]


def long_directory() -> bytes:
    """Says that it has few entries, and has very many."""
    packed = a_zip({**SKILL, **{f"{number:05}": b"" for number in range(60_000)}})
    end = bytearray(packed[packed.rindex(b"PK\5\6") :])
    for place in (8, 10):
        end[place : place + 2] = (3).to_bytes(2, "little")
    return packed[: packed.rindex(b"PK\5\6")] + bytes(end)


def zero_in_name() -> bytes:
    packed = a_zip({**SKILL, "a_b": b"x"})
    return packed.replace(b"a_b", b"a\0b")


BAD_ZIPS: dict[str, tuple[bytes, type[PortwayError]]] = {
    "no zip": (b"PK nothing", InvalidInput),
    "empty": (b"", InvalidInput),
    "no skill": (a_zip({"README.md": b"x"}), InvalidInput),
    "cut off": (a_zip(SKILL)[:-30], InvalidInput),
    "up": (a_zip({**SKILL, "../x": b"x"}), InvalidInput),
    "deep up": (a_zip({**SKILL, "a/../../x": b"x"}), InvalidInput),
    "absolute": (a_zip({**SKILL, "/etc/cron.d/x": b"x"}), InvalidInput),
    "drive": (a_zip({**SKILL, "C:\\x": b"x"}), InvalidInput),
    "symbolic link": (a_zip(SKILL, link("passwd")), InvalidInput),
    "device": (a_zip(SKILL, link("sda", stat.S_IFBLK)), InvalidInput),
    "pipe": (a_zip(SKILL, link("fifo", stat.S_IFIFO)), InvalidInput),
    "spellings": (a_zip({**SKILL, "a": b"x", "A": b"y"}), InvalidInput),
    "file and folder": (a_zip({**SKILL, "a": b"x", "a/b": b"y"}), InvalidInput),
    "bomb": (bomb(), PayloadTooLarge),
    "ratio": (a_zip({**SKILL, "zeros": bytes(5 << 20)}), PayloadTooLarge),
    "overlapping": (overlapping(), InvalidInput),
    "wrong sum": (wrong_sum(), InvalidInput),
    "another name inside": (other_name_inside(), InvalidInput),
    "encrypted": (encrypted(), InvalidInput),
    "zip64": (zip64(), InvalidInput),
    "long directory": (long_directory(), PayloadTooLarge),
    "zero byte in a name": (zero_in_name(), InvalidInput),
    "only its end": (b"PK\5\6" + bytes(18), InvalidInput),
    "folder that leads up": (a_zip({**SKILL, "../up/": b""}), InvalidInput),
    "backslashes": (a_zip({**SKILL, "a\\..\\..\\x": b"x"}), InvalidInput),
    "case of a folder": (a_zip({**SKILL, "lib/x": b"x", "LIB/X": b"y"}), InvalidInput),
    "composed and not": (a_zip({**SKILL, "\u00e9": b"x", "e\u0301": b"y"}), InvalidInput),
    "control character": (a_zip({**SKILL, "a\x07b": b"x"}), InvalidInput),
    "liar": (liar(), PortwayError),
    "many": (a_zip({**SKILL, **{f"{number}": b"" for number in range(600)}}), PayloadTooLarge),
    "two of a name": (a_zip({"a/SKILL.md": document("x"), "b/SKILL.md": document("x")}), InvalidInput),
}


@pytest.mark.parametrize("kind", BAD_ZIPS)
async def test_a_zip_that_is_none_or_means_harm_installs_nothing(served: Hosted, kind: str, tmp_path: Path) -> None:
    packed, error = BAD_ZIPS[kind]
    with pytest.raises(error):
        await install(served.channel, packed)
    assert not (await ask(served.channel, skill_pb2.ListSkillsRequest())).skills
    assert not list((tmp_path / "host" / "blobs" / "uploads").iterdir())


async def test_a_zip_in_a_zip_is_a_file_and_names_of_old_programs_are_read(served: Hosted) -> None:
    inner = a_zip({"SKILL.md": document("inner"), "../x": b"x"})
    old = zipfile.ZipInfo("caf\u00e9.txt")
    packed = a_zip({"SKILL.md": document("outer"), "inner.zip": inner}, (old, b"x"))
    assert [one.name for one in await install(served.channel, packed)] == ["outer"]
    files = await ask(served.channel, skill_pb2.ListSkillFilesRequest(name="outer"))
    assert [one.path for one in files.files] == ["SKILL.md", "caf\u00e9.txt", "inner.zip"]
    assert await read(served.channel, "outer", "inner.zip") == inner


async def test_a_folder_of_skills_is_taken_over_and_read_only(tmp_path: Path, schema_runtime: FakeRuntime) -> None:
    folder = tmp_path / "skills"
    for name in ("one", "two"):
        (folder / name / "lib").mkdir(parents=True)
        (folder / name / "SKILL.md").write_bytes(document(name))
        (folder / name / "lib" / "a.py").write_text("print(1)")
    async with hosted(tmp_path, schema_runtime, skills=folder) as host:
        channel = host.channel
        found = (await ask(channel, skill_pb2.ListSkillsRequest())).skills
        assert [one.name for one in found] == ["one", "two"]
        with pytest.raises(WrongState):
            await ask(channel, skill_pb2.DeleteSkillRequest(name="one"))
        with pytest.raises(WrongState):
            await write(channel, "one", "x", b"content")
        (folder / "one" / "lib" / "a.py").write_text("print(2)")
        (folder / "two" / "SKILL.md").unlink()
        scanned = await ask(channel, skill_pb2.ScanSkillsRequest())
        assert [(one.name, one.revision) for one in scanned.skills] == [("one", 2)] and not scanned.problems
        assert await read(channel, "one", "lib/a.py") == b"print(2)"
        (folder / "one" / "link").symlink_to("/etc/passwd")
        scanned = await ask(channel, skill_pb2.ScanSkillsRequest())
        assert "link" in scanned.problems[0] and not scanned.skills
        assert (await ask(channel, skill_pb2.GetSkillRequest(name="one"))).skill.revision == 2
        with pytest.raises(NotFound):
            await ask(channel, skill_pb2.GetSkillRequest(name="two"))


async def test_a_skill_is_active_in_one_conversation(served: Hosted) -> None:
    channel = served.channel
    await create(channel, "writing")
    run = await served.asked("hi")
    request = skill_pb2.ActivateSkillRequest(name="writing", conversation_id=run.conversation_id, active=True)
    assert (await ask(channel, request)).active
    listing = skill_pb2.ListActiveSkillsRequest(conversation_id=run.conversation_id, page_size=1)
    await create(channel, "another")
    other = skill_pb2.ActivateSkillRequest(name="another", conversation_id=run.conversation_id, active=True)
    await ask(channel, other)
    first = await ask(channel, listing)
    listing.page_token = first.next_page_token
    second = await ask(channel, listing)
    assert [one.name for one in (*first.skills, *second.skills)] == ["another", "writing"]
    assert not second.next_page_token and first.skills[0].activate_time.seconds > 0
    other.active = False
    assert not (await ask(channel, other)).active
    listing.page_token = ""
    assert [one.name for one in (await ask(channel, listing)).skills] == ["writing"]
    with pytest.raises(NotFound):
        await ask(channel, skill_pb2.ListActiveSkillsRequest(conversation_id="cnv_nowhere"))
    for missing in (
        skill_pb2.ActivateSkillRequest(name="nothing", conversation_id=run.conversation_id, active=True),
        skill_pb2.ActivateSkillRequest(name="writing", conversation_id="cnv_nowhere", active=True),
    ):
        with pytest.raises(NotFound):
            await ask(channel, missing)


async def test_another_workspace_sees_none_of_it(served: Hosted) -> None:
    await create(served.channel, "writing")
    await ask(
        served.channel,
        workspace_pb2.CreateWorkspaceRequest(workspace=workspace_pb2.Workspace(workspace_id="team", name="Team")),
    )
    async with calling_as(served, "operator", "team") as other:
        assert not (await ask(other, skill_pb2.ListSkillsRequest())).skills
        for request in (
            skill_pb2.GetSkillRequest(name="writing"),
            skill_pb2.DeleteSkillRequest(name="writing"),
            skill_pb2.ListSkillFilesRequest(name="writing"),
        ):
            with pytest.raises(NotFound):
                await ask(other, request)
        with pytest.raises(NotFound):
            await read(other, "writing", "SKILL.md")
        with pytest.raises(NotFound):
            await write(other, "writing", "x", b"content")
        assert (await create(other, "writing")).revision == 1


async def test_the_command_line_installs_lists_and_removes(served: Hosted, tmp_path: Path) -> None:
    packed = tmp_path / "pack.zip"
    packed.write_bytes(a_zip({"one/SKILL.md": document("one"), "one/big.bin": os.urandom(1_500_000)}))

    async def portway(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway.clients.cli.main", "skill", *arguments),
            env=os.environ | {"PORTWAY_HOST": served.address, "PORTWAY_TOKEN": served.admin_token, "COLUMNS": "200"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    assert "one" in (await portway("install", str(packed), "--dry-run"))[1]
    code, said = await portway("install", str(packed))
    assert code == 0 and "For tests." in said
    code, said = await portway("install", str(packed))
    assert code == 1 and "'one'" in said
    shown = json.loads((await portway("show", "one"))[1])
    assert [one.get("path") for one in shown[1:]] == ["SKILL.md", "big.bin"]
    assert "no folder of skills" in (await portway("scan"))[1]
    assert (await portway("remove", "one"))[0] == 0
    assert json.loads((await portway("list", "--json"))[1]) == []
