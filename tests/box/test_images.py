"""Images: imported, listed, used as the root of sessions, validated, removed."""

import asyncio
import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted, Reason, WrongState
from portway.rpc.ids import new_id
from portway.v1 import image_pb2, process_pb2
from tests.asking import ask
from tests.box import roots
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, dial, new_session, until_said
from tests.box.skill_files import COUNTING, put, showing
from tests.waiting import until

COMPLETED, FAILED = image_pb2.IMAGE_VALIDATION_STAGE_COMPLETED, image_pb2.IMAGE_VALIDATION_STAGE_FAILED


def a_name() -> str:
    return f"test/{new_id('img')}:1"


async def session_of(channel: PortwayChannel, data: bytes) -> Inside:
    """A session that starts from an image made of these bytes."""
    name = a_name()
    await roots.import_image(channel, name, data)
    return await new_session(channel, image=name)


@pytest.fixture
async def rooted(channel: PortwayChannel) -> AsyncIterator[Inside]:
    session = await session_of(channel, roots.root_tar())
    yield session
    await session.delete()


async def test_a_session_has_the_image_as_its_root_and_its_own_places_in_it(rooted: Inside) -> None:
    said = await rooted.sh("cat /etc/issue; ls /; id -u; echo kept > /workspace/file; cat /workspace/file; pwd")
    assert said.code == 0, said
    lines = said.stdout.split()
    assert lines[0] == "hand-made"
    assert {"bin", "dev", "etc", "lib", "proc", "tmp", "workspace"} <= set(lines)
    assert lines[-3:] == ["1000", "kept", "/workspace"]
    assert await rooted.read("file") == b"kept\n"
    assert "root:x:0" in (await rooted.sh("cat /etc/passwd")).stdout


async def test_programs_that_the_machine_has_and_the_image_lacks_are_not_there(rooted: Inside) -> None:
    assert (await rooted.argv("/usr/bin/python3", "-V")).code == 127
    assert (await rooted.sh("ls /usr/bin/python3 /usr/share 2>/dev/null; echo done")).stdout == "done\n"


async def test_an_image_cannot_be_written_to(rooted: Inside) -> None:
    said = await rooted.attempt(
        "for each in /x /etc/x /bin/x /etc/passwd /bin/sh /dev/x; do "
        "(echo x > $each) 2>/dev/null && echo WRITTEN $each; done"
    )
    assert said.stdout == ""


async def test_a_terminal_works_with_the_shell_of_the_image(rooted: Inside) -> None:
    call = await begin(
        rooted, "test -t 0 && stty size && (: < /dev/tty) && echo own && while :; do :; done", terminal=(33, 77)
    )
    await until_said(call, b"own")
    await call.write(process_pb2.ExecRequest(stdin=b"\x03"))
    ended = None
    while (frame := await call.read()) is not None and isinstance(frame, process_pb2.ExecResponse):
        if frame.HasField("exit"):
            ended = frame.exit
            break
    assert ended is not None and ended.signal == 2
    call.cancel()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
async def test_a_stream_may_be_packed(channel: PortwayChannel, pack: "type[bytes]") -> None:
    made = await roots.import_image(channel, a_name(), pack(roots.root_tar()))
    assert made.image.digest.startswith("sha256:")
    assert made.image.architecture
    assert made.image.size > 1_000_000


async def test_the_same_content_has_the_same_digest_however_it_came(channel: PortwayChannel) -> None:
    plain = await roots.import_image(channel, a_name(), roots.root_tar())
    layered = await roots.import_image(channel, a_name(), roots.oci_archive(roots.root_tar()))
    saved = await roots.import_image(channel, a_name(), roots.docker_archive(roots.root_tar()))
    other = await roots.import_image(channel, a_name(), roots.tar_of(*roots.root_entries()))
    assert plain.image.digest == layered.image.digest == saved.image.digest != other.image.digest


async def test_layers_take_away_and_replace_what_those_before_them_brought(channel: PortwayChannel) -> None:
    base = roots.tar_of(
        *roots.root_entries(),
        *(roots.file(f"data/{name}", b"old") for name in ("gone", "kept", "new", "opaque/one", "opaque/two")),
        roots.link("where", "bin"),
    )
    changes = [
        roots.file("data/.wh.gone"),
        roots.file("data/new", b"new"),
        roots.file("data/opaque/three", b"new"),
        roots.file("data/opaque/.wh..wh..opq"),
    ]
    over = roots.tar_of(*changes, roots.file("where/file", b"through a link"))
    with pytest.raises(InvalidInput, match="leads through a link"):
        await roots.import_image(channel, a_name(), roots.oci_archive(base, over))
    over = roots.tar_of(*changes)
    session = await session_of(channel, roots.docker_archive(base, over, over))
    said = await session.sh("ls /data /data/opaque; cat /data/new /data/kept")
    assert said.stdout.split() == ["/data:", "kept", "new", "opaque", "/data/opaque:", "three", "newold"]
    await session.delete()


async def test_images_are_listed_and_got_and_removed(channel: PortwayChannel, box: BoxProcess) -> None:
    name = a_name()
    made = (await roots.import_image(channel, name, roots.root_tar())).image
    assert (await ask(channel, image_pb2.GetImageRequest(name=name))).image == made
    listed, token = [], ""
    while True:
        page = await ask(channel, image_pb2.ListImagesRequest(page_size=1, page_token=token))
        listed += [image.name for image in page.images]
        if not (token := page.next_page_token):
            break
    assert name in listed
    assert listed == sorted(listed)
    await ask(channel, image_pb2.RemoveImageRequest(name=name))
    with pytest.raises(NotFound):
        await ask(channel, image_pb2.GetImageRequest(name=name))
    assert roots.left_in(box.data) == []


async def test_an_image_in_use_is_not_removed(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    session = await new_session(channel, image=name)
    assert (await ask(channel, image_pb2.GetImageRequest(name=name))).image.session_count == 1
    with pytest.raises(WrongState, match="1 sessions use") as refused:
        await ask(channel, image_pb2.RemoveImageRequest(name=name))
    assert refused.value.reason == Reason.IN_USE
    assert (await session.sh("echo works")).stdout == "works\n"
    await session.delete()
    await ask(channel, image_pb2.RemoveImageRequest(name=name))


async def test_a_session_of_an_image_that_is_not_there_is_refused_with_what_to_do(channel: PortwayChannel) -> None:
    with pytest.raises(WrongState, match="portway box image import") as refused:
        await new_session(channel, image="nothing:1")
    assert refused.value.fields[0].field == "spec.image"


async def test_a_session_that_exists_with_another_image_is_incompatible(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    with pytest.raises(WrongState) as refused:
        await new_session(channel, session_id=session.session_id, image=name)
    assert [violation.field for violation in refused.value.fields] == ["spec.image"]
    await session.delete()


async def test_a_name_is_taken_once(channel: PortwayChannel) -> None:
    name = a_name()
    results = await asyncio.gather(
        *(roots.import_image(channel, name, roots.root_tar()) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "ImportImageResponse"]
    with pytest.raises(Conflict):
        await roots.import_image(channel, name, roots.root_tar())


@pytest.mark.parametrize("name", ["../x", "-x", "a b", "a//b", "a/../b", "x" * 201, "ä"])
async def test_a_name_that_cannot_be_one_is_refused(channel: PortwayChannel, name: str) -> None:
    with pytest.raises(InvalidInput):
        await roots.import_image(channel, name, roots.root_tar())


async def test_an_image_of_one_workspace_is_not_another_ones(box: BoxProcess, channel: PortwayChannel) -> None:
    name, shared = a_name(), a_name()
    await roots.import_image(channel, name, roots.root_tar(), workspace_id="default")
    await roots.import_image(channel, shared, roots.root_tar())
    async with dial(box, "foreign") as foreign:
        with pytest.raises(NotFound):
            await ask(foreign, image_pb2.GetImageRequest(name=name))
        with pytest.raises(NotFound):
            await ask(foreign, image_pb2.GetImageRequest(name=name, workspace_id="default"))
        with pytest.raises(WrongState):
            await new_session(foreign, image=name)
        listed = [image.name for image in (await ask(foreign, image_pb2.ListImagesRequest(page_size=200))).images]
        assert shared in listed
        assert name not in listed
        with pytest.raises(NotPermitted):
            await ask(foreign, image_pb2.RemoveImageRequest(name=shared))
        own = (await roots.import_image(foreign, name, roots.root_tar())).image
        assert own.workspace_id == "elsewhere"


async def test_a_good_image_passes_every_check_stage_by_stage(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    states = await roots.validate(channel, name)
    stages = [state.stage for state in states]
    assert stages == sorted(stages)
    assert sorted(set(stages)) == [1, 2, 3, 4, 5], states[-1]
    last = states[-1]
    assert last.stage == COMPLETED
    assert {"architecture", "shell", "user", "workspace", "isolation", "network", "terminal", "python3"} <= {
        check.name for check in last.checks
    }
    assert all(check.passed and check.message for check in last.checks)
    kept = await ask(channel, image_pb2.GetImageValidationRequest(validation_id=last.validation_id))
    assert kept.validation == last


async def test_a_validation_goes_on_when_its_watcher_leaves_and_is_shared(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    call = roots.images_of(channel).ValidateImage(image_pb2.ValidateImageRequest(image=name))
    answer = await call.read()
    assert isinstance(answer, image_pb2.ValidateImageResponse)
    first = answer.validation
    assert first.stage == image_pb2.IMAGE_VALIDATION_STAGE_SUBMITTED
    call.cancel()
    shared = await roots.validate(channel, name)
    assert {state.validation_id for state in shared} == {first.validation_id}
    assert shared[-1].stage == COMPLETED


async def test_a_validation_of_nothing_fails_while_pulling(channel: PortwayChannel) -> None:
    states = await roots.validate(channel, "nothing:1")
    assert [state.stage for state in states] == [1, 2, FAILED]
    assert "pulling" in states[-1].reason
    assert "portway box image import" in states[-1].reason


async def test_an_image_for_another_machine_fails_while_starting(channel: PortwayChannel) -> None:
    entries = [(info, data[:18] + b"\xf3\x00" + data[20:]) for info, data in roots.root_entries()]
    name = a_name()
    made = await roots.import_image(channel, name, roots.tar_of(*entries))
    assert made.image.architecture == "riscv64"
    last = (await roots.validate(channel, name))[-1]
    assert last.stage == FAILED
    assert "architecture" in last.reason
    assert [check.name for check in last.checks] == ["architecture"]


async def test_an_image_without_a_shell_fails_its_checks_and_still_runs_programs(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.tar_of(*roots.root_entries(without=["bin/sh"])))
    last = (await roots.validate(channel, name))[-1]
    assert (last.stage, last.checks[-1].name, last.checks[-1].passed) == (FAILED, "shell", False)
    session = await new_session(channel, image=name)
    for _ in range(3):
        said = await session.argv("id", "-u")
        assert (said.code, said.stdout) == (0, "1000\n"), said
    assert (await session.sh("echo x")).code == 127
    assert (await session.argv("stty", "size", terminal=(20, 40))).stdout == "20 40\r\n"
    await session.delete()


async def test_an_import_that_is_given_up_leaves_nothing(channel: PortwayChannel, box: BoxProcess) -> None:
    name = a_name()
    call = roots.images_of(channel).ImportImage()
    await call.write(image_pb2.ImportImageRequest(start=image_pb2.ImportImageStart(name=name)))
    await call.write(image_pb2.ImportImageRequest(data=roots.root_tar()[:1_000_000]))
    await until(lambda: bool(roots.left_in(box.data)))
    call.cancel()
    await until(lambda: not roots.left_in(box.data))
    with pytest.raises(NotFound):
        await ask(channel, image_pb2.GetImageRequest(name=name))
    # The name is free again.
    await roots.import_image(channel, name, roots.root_tar())


async def test_a_root_that_may_be_written_to_is_the_sessions_alone_and_bounded(channel: PortwayChannel) -> None:
    name = a_name()
    before = (await roots.import_image(channel, name, roots.root_tar())).image.digest
    one, two = [await new_session(channel, image=name, read_only_root=False) for _ in range(2)]
    said = await one.sh(
        "echo changed > /etc/issue; mkdir /opt /opt/own; echo own > /opt/own/file; rm /bin/stty; cat /etc/issue"
    )
    assert (said.code, said.stdout) == (0, "changed\n"), said
    assert (await one.sh("cat /etc/issue /opt/own/file; ls /bin/stty 2>/dev/null")).stdout == "changed\nown\n"
    assert (await two.sh("cat /etc/issue; ls -d /opt /bin/stty 2>/dev/null")).stdout == "hand-made\n/bin/stty\n"
    flood = await one.attempt("head -c 200000000 /dev/zero > /big; echo ended $?")
    assert "ended 0" not in flood.stdout
    moved = await one.attempt("for each in proc dev tmp workspace; do mv /$each /moved 2>/dev/null && echo MOVED; done")
    assert "MOVED" not in moved.stdout
    await one.delete()
    await two.delete()
    again = (await roots.import_image(channel, a_name(), roots.root_tar())).image.digest
    assert before == again


async def test_skills_and_sockets_are_shown_in_a_session_of_an_image(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    digest = await put(channel, COUNTING)
    for read_only in (True, False):
        session = await new_session(channel, image=name, skills=[showing("counting", digest)], read_only_root=read_only)
        said = await session.attempt(
            "cat .skills/counting/lib/data.txt; touch .skills/x 2>/dev/null && echo OPEN; ls /run"
        )
        assert said.stdout == "1 2 3\nportway\n", said
        await session.delete()


@pytest.mark.heavy
async def test_a_whole_distribution_made_by_debootstrap_is_an_image(box: BoxProcess, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed, or this test run is not root's")
    made = await asyncio.to_thread(
        subprocess.run,
        ["debootstrap", "--variant=minbase", "stable", str(tmp_path / "root")],
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot fetch packages here: {made.stdout[-300:]}")
    packing = ["tar", "-C", str(tmp_path / "root"), "-c", "."]
    packed = (await asyncio.to_thread(subprocess.run, packing, capture_output=True, check=True)).stdout
    async with dial(box) as channel:
        name, layered = a_name(), a_name()
        image = (await roots.import_image(channel, name, packed)).image
        assert image.entry_count > 3000
        assert (await roots.import_image(channel, layered, roots.oci_archive(packed))).image.digest == image.digest
        assert (await roots.validate(channel, name))[-1].stage == COMPLETED
        session = await new_session(channel, image=name, read_only_root=False)
        said = await session.attempt(
            "dpkg --list | grep -c ^ii; getent passwd www-data; echo x > /usr/bin/new; ls /usr/bin/new"
        )
        count, user, new = said.stdout.split()
        assert int(count) > 50
        assert user.startswith("www-data:")
        assert new == "/usr/bin/new"
        terminal = await session.sh("test -t 0 && (: < /dev/tty)", terminal=(20, 60))
        assert terminal.code == 0
        await session.delete()


async def test_what_is_too_much_is_refused(box: BoxProcess, channel: PortwayChannel) -> None:
    bomb = gzip.compress(roots.tar_of(roots.file("zeros", bytes(300_000_000))))
    assert len(bomb) < 1_000_000
    with pytest.raises(LimitExceeded, match="packed more than"):
        await roots.import_image(channel, a_name(), bomb)
    await until(lambda: not roots.left_in(box.data))


async def test_on_a_terminal_only_the_foreground_job_is_interrupted_also_without_programs_for_it(
    rooted: Inside,
) -> None:
    assert (await rooted.argv("ls", "/bin/setsid", "/usr/bin/setsid")).code == 2
    # The job says itself that it runs: a shell may miss the signal in the moment in which it starts one.
    job = "sh -c 'test -t 0 && (: < /dev/tty) && echo ready; while :; do :; done'"
    script = f'trap "echo caught" INT; {job}; echo after'
    call = await begin(rooted, script, terminal=(24, 80))
    await until_said(call, b"ready")
    await call.write(process_pb2.ExecRequest(stdin=b"\x03"))
    said, ended = b"", None
    while (frame := await call.read()) is not None and isinstance(frame, process_pb2.ExecResponse):
        said += frame.stdout
        if frame.HasField("exit"):
            ended = frame.exit
            break
    assert b"caught\r\nafter\r\n" in said
    assert ended is not None and (ended.status, ended.exit_code) == (process_pb2.EXIT_STATUS_COMPLETED, 0)
    call.cancel()


async def test_what_leads_a_terminal_finds_programs_as_a_shell_does_and_leaves_nothing_open(rooted: Inside) -> None:
    terminal = (20, 40)
    assert (await rooted.argv("stty", "size", terminal=terminal)).stdout == "20 40\r\n"
    assert (await rooted.argv("stty", "size", terminal=terminal, env={"PATH": "/nowhere:/bin"})).stdout == "20 40\r\n"
    assert (await rooted.argv("/bin/id", "-u", terminal=terminal)).stdout == "1000\r\n"
    assert (await rooted.argv("not-there", terminal=terminal)).code == 127
    await rooted.sh("cp /bin/cat script; echo 'echo by $0 $1' | cat > script; echo > closed")
    assert (await rooted.argv("./script", "x", terminal=terminal)).stdout == "by ./script x\r\n"
    assert (await rooted.argv("./closed", terminal=terminal)).code == 126
    assert (await rooted.argv("ls", "/proc/self/fd", terminal=terminal)).stdout.split() == ["0", "1", "2", "3"]
    nothing = await rooted.argv("cat", "/etc/issue", "", "x", terminal=terminal)
    assert nothing.code == 1 and nothing.stdout.startswith("hand-made")
