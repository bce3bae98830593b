"""Skills over restarts, in little room, with packages, and in directories of the machine."""

import asyncio
import io
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import LimitExceeded, NotFound, PortwayError
from portway.v1 import skill_mount_pb2
from tests.asking import ask
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, box_process, why_not
from tests.box.inside import Inside, dial, new_session
from tests.box.skill_files import COUNTING, digest_of, put, showing
from tests.box.test_skills import MINE, set_skills


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED, pytest.param(DOCKER, marks=pytest.mark.heavy)])
async def test_persistent_sessions_come_back_with_their_skills_after_a_kill(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            digest = await put(channel, COUNTING)
            second = await put(channel, {**COUNTING, "more": b"more\n"})
            skills = [showing("counting", digest, True)]
            session = await new_session(channel, session_id="kept", persistent=True, skills=skills)
            assert (await session.sh(f"echo mine > {MINE}/mine")).code == 0
            await set_skills(session, *skills, showing("other", second))
        box.kill()
        left = box.data / "skills" / "incoming-left"
        left.mkdir()
        (left / "x").write_text("x")
        for path in (left, left / "x"):
            os.chown(path, box.data.stat().st_uid, box.data.stat().st_gid)
        box.start()
        assert not left.exists()
        async with dial(box) as channel:
            session = Inside(channel, "kept")
            assert (await session.sh(f"cat {MINE}/mine .skills/other/more; {MINE}/run.sh")).stdout == "mine\nmore\n3\n"
            assert not (await ask(channel, skill_mount_pb2.FindSkillsRequest(digests=[digest, second]))).missing
            await session.delete()


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED, pytest.param(DOCKER, marks=pytest.mark.heavy)])
async def test_skills_that_no_session_shows_make_room(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode, settings={"skills_bytes": 3 << 20}) as box:
        box.start()
        async with dial(box) as channel:
            first, second, third = ({"SKILL.md": bytes([number]) * (1 << 20)} for number in range(3))
            shown = await put(channel, first)
            session = await new_session(channel, skills=[showing("first", shown)])
            unused = await put(channel, second)
            await put(channel, third)
            find = skill_mount_pb2.FindSkillsRequest(digests=[digest_of(one) for one in (first, second, third)])
            assert list((await ask(channel, find)).missing) == [unused]
            with pytest.raises(LimitExceeded, match="skills_bytes"):
                await put(channel, {"SKILL.md": bytes(5 << 20)})
            assert (await session.sh("stat -c %s .skills/first/SKILL.md")).stdout == "1048576\n"
            await session.delete()
            assert not list((box.data / "skills").glob("incoming-*"))


async def test_an_environment_is_made_once_from_wheels_without_a_network(channel: PortwayChannel) -> None:
    files = {"SKILL.md": b"x", "requirements.txt": b"tiny==1.0\n", "wheels/tiny-1.0-py3-none-any.whl": wheel()}
    digest = await put(channel, files)
    unmet = await put(channel, {"SKILL.md": b"x", "requirements.txt": b"surely-missing==9\n"})
    project = await put(
        channel,
        {
            **{k: v for k, v in files.items() if k != "requirements.txt"},
            "pyproject.toml": b'[project]\nname = "x"\nversion = "1"\ndependencies = ["tiny"]\n',
        },
    )
    skills = [
        showing("tiny", digest),
        showing("plain", await put(channel, COUNTING)),
        showing("unmet", unmet),
        showing("project", project),
        showing("broken", await put(channel, {"pyproject.toml": b"[[["})),
    ]
    session = await new_session(channel, skills=skills)

    async def prepare(name: str) -> skill_mount_pb2.PrepareSkillResponse:
        answer: skill_mount_pb2.PrepareSkillResponse = await ask(
            channel, skill_mount_pb2.PrepareSkillRequest(session_id=session.session_id, name=name)
        )
        return answer

    if "no Python environment" in (reason := await why(prepare("tiny"))):
        pytest.skip(reason)
    made = await prepare("tiny")
    assert made.existed and made.environment.startswith("/workspace/.skill-environments/tiny-")
    assert (await session.sh(f"{made.environment}/bin/python -c 'import tiny; print(tiny.ANSWER)'")).stdout == "42\n"
    first, second = await asyncio.gather(prepare("project"), prepare("project"))
    assert first.environment == second.environment and [first.existed, second.existed].count(True) == 1
    assert (await session.sh(f"{first.environment}/bin/python -c 'import tiny; print(tiny.ANSWER)'")).stdout == "42\n"
    plain = await prepare("plain")
    assert (plain.environment, plain.existed) == ("", False)
    assert "wheels" in await why(prepare("unmet")) and "surely-missing" in await why(prepare("unmet"))
    assert "pyproject.toml cannot be read" in await why(prepare("broken"))
    with pytest.raises(NotFound):
        await prepare("nothing")
    assert "unmet" not in (await session.sh("ls -d .skill-environments/*/")).stdout
    await session.delete()


async def why(work: "asyncio.Future[object] | AsyncIterator[object] | object") -> str:
    """What it was refused for; '' where it was not."""
    try:
        await work  # type: ignore[misc]
    except PortwayError as error:
        return error.message
    return ""


def wheel() -> bytes:
    """The smallest package that can be installed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("tiny.py", "ANSWER = 42\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            "tiny-1.0.dist-info/RECORD",
            "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n",
        )
    return made.getvalue()


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED, pytest.param(DOCKER, marks=pytest.mark.heavy)])
async def test_in_a_workspace_of_the_machine_that_is_only_read_no_copy_is_made(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    with ExitStack() as stack:
        box = stack.enter_context(box_process(mode))
        # Not below the box's own folder, which is never shown.
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portway-box-test-roots-")))
        os.chmod(work, 0o777)
        box.settings = {"mount_roots": [str(work)]}
        box.start()
        async with dial(box) as channel:
            skill = showing("counting", await put(channel, COUNTING), True)
            for profile, said in (("offline_readonly", "3\nrefused\n"), ("default", "3\n")):
                source = str(work)
                session = await new_session(channel, profile=profile, workspace_source=source, skills=[skill])
                tried = await session.sh(f"{MINE}/run.sh; touch {MINE}/x 2>/dev/null || echo refused")
                assert tried.stdout == said, tried
                assert os.listdir(work) == [".skills"]
                assert bool(os.listdir(work / ".skills")) == (profile == "default")
                await session.delete()
