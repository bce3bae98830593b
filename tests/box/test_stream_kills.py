"""The box killed amid what comes in pieces or in stages: imports, skills, uploads, sockets, networks, restarts, wakes.

Whatever the moment: nothing is left, what was acknowledged is there whole, what was not is there whole or not at all.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from grpc.aio import AioRpcError

from portway.clients.box import Box
from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.v1 import image_pb2, process_pb2, session_pb2, skill_mount_pb2
from portway.v1.session_pb2 import NETWORK_MODE_ALLOW_LIST, NetworkPolicy
from tests.asking import ask
from tests.box.archives import ordinary
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, command, dial, new_session
from tests.box.machine import kill_all, leftovers, until_gone, until_nothing_is_left
from tests.box.roots import import_image, left_in, root_tar, validate
from tests.box.serving import echo
from tests.box.skill_files import COUNTING, put, showing
from tests.box.test_skills import set_skills

FILES = [(f"tree/{number}", bytes([number]) * 20_000) for number in range(60)]
LISTED = NetworkPolicy(mode=NETWORK_MODE_ALLOW_LIST, allow=["a.example"])


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.start()
        yield box


@dataclass
class Told:
    """What callers were told of before the box was gone."""

    images: set[str] = field(default_factory=set)
    skills: set[str] = field(default_factory=set)
    uploaded: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)


class Users:
    """Use everything at once, again and again, until the box is gone."""

    def __init__(self, box: BoxProcess, channel: PortwayChannel, mark: str, told: Told) -> None:
        self._box = box
        self._channel = channel
        self._mark = mark
        self._told = told

    async def run(self) -> None:
        home = await new_session(self._channel, session_id="home", persistent=True)
        async with Box(self._box.address, token=self._box.tokens["admin"].text) as client:
            works = (
                self._import_images(), self._put_skills(home), self._upload(client), self._serve(client, home),
                self._networks(), self._restart(),
            )  # fmt: skip
            await asyncio.gather(*(_until_lost(work) for work in works))

    async def _import_images(self) -> None:
        for name in _names("image"):
            await import_image(self._channel, name, root_tar())
            self._told.images.add(name)
            await validate(self._channel, name)

    async def _put_skills(self, home: Inside) -> None:
        for name in _names("skill"):
            files = {**COUNTING, "name": name.encode(), "large": name.encode() * 50_000}
            digest = await put(self._channel, files)
            self._told.skills.add(digest)
            await set_skills(home, showing("one", digest, True))

    async def _upload(self, client: Box) -> None:
        data = ordinary(FILES)
        for name in _names("up"):
            await client.upload("home", name, _pieces(data), make_parents=True)
            self._told.uploaded.add(name)

    async def _serve(self, client: Box, home: Inside) -> None:
        for _ in _names("socket"):
            async with client.serve_socket("home", "echo", echo):
                await home.sh("test -S /run/portway/echo")

    async def _networks(self) -> None:
        for number, name in enumerate(_names("net")):
            session = await new_session(self._channel, session_id=name, network=LISTED, persistent=True)
            self._told.made.add(name)
            await session.sh("echo x")
            if number % 4:
                self._told.made.discard(name)
                await session.delete()

    async def _restart(self) -> None:
        # A session of its own: what runs in one that gets its first skill is ended.
        failing_at = await new_session(self._channel, session_id="failing", persistent=True)
        failing = command(shell=f"setsid sleep 600 & echo run >> /workspace/runs; exit 1; : {self._mark}")
        request = process_pb2.StartProcessRequest(
            session_id="failing", process_id="p", command=failing, restart_policy=process_pb2.RESTART_POLICY_ALWAYS
        )
        await ask(self._channel, request)
        long = await failing_at.sh(f"sleep 600; : {self._mark}", timeout=600.0)
        raise AssertionError(f"a command that was lost was told as done: {long}")


async def _until_lost(work: Awaitable[None]) -> None:
    with suppress(PortwayError, AioRpcError):
        await work


def _names(kind: str) -> Iterator[str]:
    for number in range(10_000):
        yield f"{kind}-{number}"


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


async def one_round(box: BoxProcess, delay: float, *, launcher: bool) -> Told:
    mark, told = new_id("mark"), Told()
    async with dial(box) as channel:
        using = asyncio.create_task(Users(box, channel, mark, told).run())
        # The moment is what is tried here.
        await asyncio.wait([using], timeout=delay)
        if launcher:
            kill_all([box.pid, *box.launcher_pids()])
        box.kill()
        await asyncio.gather(using, return_exceptions=True)
    if not isinstance(using.exception(), PortwayError | AioRpcError | None):
        raise AssertionError("a caller was told something wrong") from using.exception()
    await until_gone(mark)
    if not launcher:
        await until_nothing_is_left(box)
    box.start()
    async with dial(box) as channel:
        await _check(box, channel, told)
    await until_gone(mark)
    return told


async def _check(box: BoxProcess, channel: PortwayChannel, told: Told) -> None:
    images = {one.name for one in (await ask(channel, image_pb2.ListImagesRequest(page_size=200))).images}
    assert told.images <= images
    assert left_in(box.data) == []
    for name in images:
        session = await new_session(channel, image=name)
        assert (await session.sh("cat /etc/issue")).stdout == "hand-made\n"
        await session.delete()
        await ask(channel, image_pb2.RemoveImageRequest(name=name))
    missing = (await ask(channel, skill_mount_pb2.FindSkillsRequest(digests=sorted(told.skills)))).missing
    assert list(missing) == []
    back = {one.session_id for one in (await ask(channel, session_pb2.ListSessionsRequest(page_size=200))).sessions}
    assert told.made <= back
    for name in back:
        session = Inside(channel, name)
        assert (await session.sh("echo alive")).stdout == "alive\n"
        if name == "home":
            await _check_uploads(session, told)
        await session.delete()
    assert not [path for path in (box.data / "sessions").iterdir() if path.is_dir()]


async def _check_uploads(home: Inside, told: Told) -> None:
    counted = await home.sh("for each in up-*/tree; do test -d $each && echo ${each%/tree} $(ls $each | wc -l); done")
    whole = dict(line.split() for line in counted.stdout.splitlines())
    assert told.uploaded <= whole.keys()
    assert {count for name, count in whole.items() if name in told.uploaded} <= {str(len(FILES))}


@pytest.mark.parametrize("launcher", [False, pytest.param(True, marks=pytest.mark.heavy)], ids=["box", "both"])
async def test_a_kill_amid_streams_leaves_nothing_half_and_loses_nothing(mortal: BoxProcess, launcher: bool) -> None:
    told = await one_round(mortal, random.uniform(0.8, 1.6), launcher=launcher)
    assert told.skills or told.uploaded or told.images
    assert mortal.stop() == 0
    assert leftovers(mortal) == []


@pytest.mark.heavy
async def test_kills_amid_streams_at_random_moments(mortal: BoxProcess) -> None:
    made = 0
    for _ in range(12):
        told = await one_round(mortal, random.choice((0.1, 0.5, 2.0)) * random.random(), launcher=random.random() < 0.5)
        made += len(told.skills) + len(told.uploaded) + len(told.images) + len(told.made)
    assert made > 12
    assert mortal.stop() == 0
    assert leftovers(mortal) == []
