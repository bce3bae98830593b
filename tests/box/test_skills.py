"""Skills in sessions: there from the start, read-only, never another's, and changed while the session lives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, WrongState
from portway.v1 import file_pb2, process_pb2, session_pb2, skill_mount_pb2
from tests.asking import ask
from tests.box.archives import Member, archive, content_of, members_of
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, dial, new_session, until_said
from tests.box.skill_files import COUNTING, digest_of, packed, put, send, showing
from tests.box.test_archives import BAD, download, upload

FOLDER = "/workspace/.skills"
MINE = f"{FOLDER}/counting"


async def set_skills(inside: Inside, *skills: session_pb2.SessionSkill) -> skill_mount_pb2.SetSessionSkillsResponse:
    request = skill_mount_pb2.SetSessionSkillsRequest(session_id=inside.session_id, skills=skills)
    answer: skill_mount_pb2.SetSessionSkillsResponse = await ask(inside.channel, request)
    return answer


@pytest.fixture
async def skilled(channel: PortwayChannel) -> AsyncIterator[Inside]:
    """A session that shows one skill from the start."""
    session = await new_session(channel, skills=[showing("counting", await put(channel, COUNTING))])
    yield session
    await session.delete()


async def test_a_skill_is_there_from_the_start_and_read_only(skilled: Inside) -> None:
    said = await skilled.sh(
        f"cat {MINE}/lib/data.txt && {MINE}/run.sh && ls -A .skills && stat -c %a {MINE} {MINE}/run.sh"
    )
    assert said.stdout == "1 2 3\n3\ncounting\n755\n755\n", said
    for attempt in (
        f"echo x > {MINE}/run.sh", f"touch {MINE}/new", f"rm -f {MINE}/run.sh", f"chmod 777 {MINE}/run.sh",
        f"mv {MINE} /tmp/x", "touch .skills/new", "mkdir .skills/other", "rmdir .skills/counting", "mv .skills gone",
        "rm -rf .skills", "ln -s /tmp .skills/x", f"mount -o remount,rw {MINE}", f"umount {MINE}", "umount .skills",
        "mkdir over && mount --bind over .skills",
    ):  # fmt: skip
        tried = await skilled.attempt(f"({attempt}) 2>&1; echo $?")
        assert tried.stdout.split()[-1] != "0", (attempt, tried)
    assert (
        await skilled.sh(f"cat {MINE}/lib/data.txt && {MINE}/run.sh; ls -A .skills; rmdir over")
    ).stdout == "1 2 3\n3\ncounting\n"


async def test_files_of_skills_are_read_searched_and_never_written_over_the_wire(skilled: Inside) -> None:
    assert await skilled.read(f"{MINE}/lib/data.txt") == b"1 2 3\n"
    assert await skilled.read(".skills/counting/run.sh") == COUNTING["run.sh"]
    listed = await ask(skilled.channel, file_pb2.ListDirectoryRequest(directory=skilled.path(".skills")))
    assert [one.path for one in listed.files] == [MINE]
    found = await ask(
        skilled.channel, file_pb2.GlobRequest(directory=skilled.path(".skills/counting"), pattern="**/*.txt")
    )
    assert [one.path for one in found.files] == [f"{MINE}/lib/data.txt"]
    lines = await ask(skilled.channel, file_pb2.GrepRequest(root=skilled.path(MINE), pattern="echo"))
    assert [one.path for one in lines.matches] == [f"{MINE}/run.sh"]
    stored, _end = await download(skilled, MINE)
    assert content_of(stored, "run.sh") == COUNTING["run.sh"]
    for path in (
        f"{MINE}/run.sh",
        f"{MINE}/new",
        ".skills/new",
        ".skills",
        "x/../.skills/counting/run.sh",
        "l/run.sh",
        "w/.skills/x",
    ):
        await skilled.sh("mkdir -p x; ln -sfn .skills/counting l; ln -sfn . w")
        with pytest.raises((NotPermitted, WrongState)):
            await skilled.write(path, b"x")
    for path in (".skills", MINE, f"{MINE}/run.sh", "x/../.skills", "w/.skills", "x/../.skills/counting"):
        for recursive in (False, True):
            with pytest.raises((NotPermitted, InvalidInput, WrongState, NotFound)):
                await ask(skilled.channel, file_pb2.RemoveRequest(file=skilled.path(path), recursive=recursive))
    for members in (
        (Member(b".skills/counting/run.sh", b"x"),),
        (Member(b".skills", b"x"),),
        (Member(b".skills", b"", b"2", b"x"),),
    ):
        with pytest.raises((NotPermitted, WrongState)):
            await upload(skilled, archive(*members))
    everything, end = await download(skilled, ".")
    assert not any("run.sh" in name for name in members_of(everything)) and end.skipped_count >= 1
    with pytest.raises(NotPermitted):
        await ask(
            skilled.channel, file_pb2.EditFileRequest(file=skilled.path(f"{MINE}/run.sh"), old_text="3", new_text="4")
        )
    assert (await skilled.sh(f"{MINE}/run.sh; ls -A .skills")).stdout == "3\ncounting\n"


async def test_two_sessions_that_show_one_skill_share_nothing(channel: PortwayChannel) -> None:
    digest = await put(channel, COUNTING)
    one = await new_session(channel, skills=[showing("counting", digest, writable=True)])
    other = await new_session(channel, skills=[showing("counting", digest, writable=True), showing("again", digest)])
    assert (
        await one.sh(f"echo changed > {MINE}/lib/data.txt && echo new > {MINE}/new && cat {MINE}/lib/data.txt")
    ).stdout == "changed\n"
    assert (
        await other.sh(f"cat {MINE}/lib/data.txt .skills/again/lib/data.txt; ls {MINE}")
    ).stdout == "1 2 3\n1 2 3\nSKILL.md\nlib\nrun.sh\n"
    user = (await one.sh("id -u")).stdout.strip()
    assert (await one.sh(f"stat -c '%u %a' {MINE} {MINE}/lib {MINE}/run.sh")).stdout == f"{user} 755\n" * 3
    await one.write(f"{MINE}/written", b"by file")
    assert (
        await one.sh(f"cat {MINE}/written; rm -r {MINE}/lib; ls {MINE}; rmdir {MINE} 2>/dev/null; ls .skills")
    ).stdout.split() == ["by", "fileSKILL.md", "new", "run.sh", "written", "counting"]
    for session in (one, other):
        await session.delete()


async def test_a_changed_set_reaches_commands_that_begin_and_spares_those_that_run(
    skilled: Inside, box: BoxProcess
) -> None:
    digest = digest_of(COUNTING)
    newer = {**COUNTING, "lib/data.txt": b"4 5 6\n"}
    await skilled.sh("echo kept > mine; echo temporary > /tmp/mine")
    running = await begin(skilled, f"echo started; read x; cat {MINE}/lib/data.txt; exit 7")
    await until_said(running, b"started")
    entered = await begin(skilled, f"cd {MINE}; echo started; read x; cat lib/data.txt; ls ..; exit 7")
    await until_said(entered, b"started")
    second = await put(skilled.channel, newer)
    answer = await set_skills(skilled, showing("counting", second), showing("other", digest))
    assert answer.killed_process_count == 0
    # Each of several that were put up ahead of need would show the old ones.
    for said in await asyncio.gather(
        *(skilled.sh(f"cat {MINE}/lib/data.txt mine /tmp/mine; ls .skills") for _ in range(12))
    ):
        assert said.stdout == "4 5 6\nkept\ntemporary\ncounting\nother\n", said
    assert await skilled.read(f"{MINE}/lib/data.txt") == b"4 5 6\n"
    await running.write(process_pb2.ExecRequest(stdin=b"\n"))
    # Commands in a container share one view. Who had gone into a skill stays where it was.
    await until_said(running, b"4 5 6\n" if box.has_image else b"1 2 3\n")
    await entered.write(process_pb2.ExecRequest(stdin=b"\n"))
    await until_said(entered, b"1 2 3\ncounting\n")
    running.cancel()
    entered.cancel()
    session = (await ask(skilled.channel, session_pb2.GetSessionRequest(session_id=skilled.session_id))).session
    assert {one.name: one.digest for one in session.spec.skills} == {"counting": second, "other": digest}
    assert (await set_skills(skilled)).killed_process_count == 0
    assert (await skilled.sh("ls -A .skills; touch .skills/x 2>/dev/null; echo $?; cat mine")).stdout == "1\nkept\n"
    with pytest.raises(NotFound):
        await skilled.read(f"{MINE}/run.sh")


@pytest.mark.parametrize(
    "trap",
    [
        "ln -s /tmp .skills", "ln -s . .skills", "echo file > .skills",
        "mkdir -p .skills/counting; echo fake > .skills/counting/run.sh",
        "mkfifo .skills", "ln -s /etc/passwd .skills", "mkdir .skills; ln -s / .skills/counting",
        "mkdir .skills; chmod 000 .skills",
    ],
)  # fmt: skip
async def test_a_session_that_gets_its_first_skills_cannot_have_put_something_in_their_place(
    inside: Inside, trap: str
) -> None:
    assert (await inside.sh(trap)).code == 0
    meddling = await begin(
        inside,
        "echo going; while :; do mv .skills .x; mkdir -p .skills/counting; mv .skills .y; ln -s /tmp .skills; "
        "rm -rf .x .y; done 2>/dev/null",
    )
    await until_said(meddling, b"going")
    digest = await put(inside.channel, COUNTING)
    for writable in (False, True):
        answer = await set_skills(inside, showing("counting", digest, writable))
        assert answer.killed_process_count == (0 if writable else 1)
        assert (await inside.sh(f"{MINE}/run.sh; ls .skills")).stdout == "3\ncounting\n"
        assert await inside.read(f"{MINE}/run.sh") == COUNTING["run.sh"]
    meddling.cancel()


async def test_changes_of_a_writable_copy_last_as_long_as_the_skill_is_the_same(skilled: Inside) -> None:
    digest = digest_of(COUNTING)
    await set_skills(skilled, showing("counting", digest, writable=True))
    assert (await skilled.sh(f"echo mine > {MINE}/mine && cat {MINE}/lib/data.txt")).stdout == "1 2 3\n"
    await set_skills(skilled, showing("counting", digest))
    assert (
        await skilled.sh(f"ls {MINE}; touch {MINE}/x 2>/dev/null || echo refused")
    ).stdout == "SKILL.md\nlib\nrun.sh\nrefused\n"
    await set_skills(skilled, showing("counting", digest, writable=True))
    assert (await skilled.sh(f"cat {MINE}/mine")).stdout == "mine\n"
    newer = await put(skilled.channel, {**COUNTING, "more": b"more"})
    await set_skills(skilled, showing("counting", newer, writable=True))
    assert (await skilled.sh(f"ls {MINE}")).stdout == "SKILL.md\nlib\nmore\nrun.sh\n"


async def test_a_copy_that_does_not_fit_is_refused_and_changes_nothing(
    channel: PortwayChannel, box: BoxProcess
) -> None:
    limits = session_pb2.SessionLimits(disk_bytes=4 << 20)
    large = {**COUNTING, "large": bytes(6 << 20)}
    session = await new_session(channel, limits=limits, skills=[showing("counting", await put(channel, large), True)])
    # It was made all the same, with the skill to be read only: a session whose disk is full must come back.
    assert (
        await session.sh(f"stat -c %s {MINE}/large; touch {MINE}/x 2>/dev/null || echo refused")
    ).stdout == "6291456\nrefused\n"
    await set_skills(session, showing("counting", digest_of(large)))
    with pytest.raises(LimitExceeded, match="full"):
        await set_skills(session, showing("counting", digest_of(large), True), showing("more", digest_of(large)))
    assert (await session.sh("ls .skills")).stdout == "counting\n"
    await session.write("small", bytes(1 << 20))
    await session.delete()


async def test_a_digest_that_the_box_does_not_have_is_named(channel: PortwayChannel, inside: Inside) -> None:
    digest, missing = await put(channel, COUNTING), "0" * 64
    request = skill_mount_pb2.FindSkillsRequest(digests=[digest, missing])
    assert list((await ask(channel, request)).missing) == [missing]
    wanted = [showing("counting", digest), showing("nothing", missing)]
    with pytest.raises(WrongState) as refused:
        await new_session(channel, skills=wanted)
    assert [one.field for one in refused.value.fields] == ["spec.skills[1].digest"]
    with pytest.raises(WrongState) as refused:
        await set_skills(inside, *wanted)
    assert [one.field for one in refused.value.fields] == ["skills[1].digest"]
    with pytest.raises(InvalidInput):
        await set_skills(inside, showing("counting", digest), showing("counting", digest, True))
    for name in ("", "..", "a/b", ".x", "x" * 65, "a\0b", "a b"):
        with pytest.raises(InvalidInput):
            await set_skills(inside, showing(name, digest))
    with pytest.raises(InvalidInput):
        await set_skills(inside, showing("counting", "../../etc"))


async def test_a_workspace_learns_nothing_of_anothers_skills(channel: PortwayChannel, box: BoxProcess) -> None:
    secret = {**COUNTING, "secret": b"canary"}
    digest = await put(channel, secret)
    async with dial(box, "foreign") as other:
        assert list((await ask(other, skill_mount_pb2.FindSkillsRequest(digests=[digest]))).missing) == [digest]
        with pytest.raises(WrongState):
            await new_session(other, skills=[showing("counting", digest)])
        with pytest.raises(NotFound):
            await ask(other, skill_mount_pb2.FindSkillsRequest(workspace_id="default", digests=[digest]))
        with pytest.raises(NotFound):
            await send(other, packed(secret), digest, "default")
        assert not (await send(other, packed(secret), digest)).existed
        session = await new_session(other, skills=[showing("counting", digest)])
        assert (await session.sh(f"cat {MINE}/secret")).stdout == "canary"
        await session.delete()


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "twice"])
async def test_what_is_no_good_archive_is_no_skill(channel: PortwayChannel, kind: str) -> None:
    with pytest.raises(InvalidInput):
        await send(channel, BAD[kind], digest_of({"good": b"good"}))


async def test_files_that_do_not_have_the_digest_are_refused(channel: PortwayChannel) -> None:
    digest = digest_of(COUNTING)
    link = archive(Member(b"SKILL.md", b"x"), Member(b"link", b"", b"2", b"SKILL.md"))
    not_text = archive(Member(b"\xff", b"x"))
    for data in (packed({**COUNTING, "x": b"x"}), packed({"SKILL.md": b"x"}), link, not_text, archive()):
        with pytest.raises(InvalidInput):
            await send(channel, data, digest.replace(digest[0], "0" if digest[0] != "0" else "1"))
    many = {f"{number}.txt": b"" for number in range(501)}
    with pytest.raises(LimitExceeded):
        await put(channel, many)
    with pytest.raises(LimitExceeded):
        await send(channel, packed({"big": bytes(33 << 20)}), digest)


async def test_sets_that_change_under_commands_never_show_a_part(skilled: Inside, box: BoxProcess) -> None:
    digest = digest_of(COUNTING)
    second = await put(skilled.channel, {**COUNTING, "more": b"more\n"})
    sets = (
        (showing("counting", digest), showing("other", second)),
        (showing("counting", second), showing("other", digest)),
    )
    stopped = asyncio.Event()

    async def change() -> None:
        turn = 0
        while not stopped.is_set():
            await set_skills(skilled, *sets[turn % 2])
            turn += 1

    await set_skills(skilled, *sets[0])
    changing = asyncio.create_task(change())
    seen = set()
    for _ in range(60):
        # In a container a set is whole for who has gone into it.
        said = await skilled.sh(
            "cd .skills && ls && ls -d */more | sed s,^,.skills/,"
            if box.has_image
            else "ls .skills; ls -d .skills/*/more"
        )
        assert said.code == 0, said
        seen.add(said.stdout)
    stopped.set()
    await changing
    assert seen <= {"counting\nother\n.skills/other/more\n", "counting\nother\n.skills/counting/more\n"}, seen
