"""Sessions in containers of a real Docker engine: how they are made, lost, and what is left of them."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from portway.rpc.errors import PortwayError, Unavailable, WrongState
from portway.rpc.ids import new_id
from portway.v1 import box_pb2, process_pb2, skill_mount_pb2
from tests.asking import ask
from tests.box.box_process import DOCKER, PLAIN_USER, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import begin, dial, new_session, next_frame, until_said
from tests.box.machine import processes_with, until_gone, until_nothing_is_left
from tests.box.skill_files import COUNTING, put, showing
from tests.engines.dockerd import Dockerd, docker_engine, own_engine, why_no_docker
from tests.waiting import until


@pytest.fixture
def mortal() -> Iterator[BoxProcess]:
    """A box of the test's own, to be killed."""
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    with box_process(DOCKER) as box:
        box.start()
        yield box


@contextlib.contextmanager
def client(engine: Dockerd | None = None) -> Iterator[Any]:
    made = docker.APIClient(base_url=f"unix://{(engine or docker_engine()).socket}", version="1.41", timeout=60)
    try:
        yield made
    finally:
        made.close()


def containers(box: BoxProcess, engine: Dockerd | None = None) -> list[dict[str, Any]]:
    label = f"portway.box.installation={(box.data / 'installation').read_text().strip()}"
    with client(engine) as api:
        found: list[dict[str, Any]] = api.containers(all=True, filters={"label": label})
        return found


def status_of(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def groups_of(container: str) -> list[str]:
    return [path for path, names, _files in os.walk("/sys/fs/cgroup") if container in names]


async def test_a_container_is_told_every_bound_that_an_engine_knows(mortal: BoxProcess) -> None:
    async with dial(mortal) as channel:
        await new_session(channel)
        (one,) = containers(mortal)
        with client() as engine:
            told = engine.inspect_container(one["Id"])
    host = told["HostConfig"]
    assert (host["CapDrop"], sorted(host["CapAdd"])) == (["ALL"], ["KILL", "SETGID", "SETPCAP", "SETUID"])
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert host["ReadonlyRootfs"] and not host["Privileged"]
    assert host["Memory"] == host["MemorySwap"] == 512 << 20
    assert host["PidsLimit"] > 0 and host["CpuQuota"] > 0
    assert (host["NetworkMode"], host["IpcMode"], host["CgroupnsMode"]) == ("none", "private", "private")
    assert host["LogConfig"]["Type"] == "none"
    assert "size=" in host["Tmpfs"]["/tmp"] and host["ShmSize"] == 64 << 20
    assert all(mount["BindOptions"]["Propagation"] == "rprivate" for mount in host["Mounts"])
    assert {limit["Name"] for limit in host["Ulimits"]} >= {"core", "nofile", "memlock"}


async def test_the_keeper_has_three_rights_and_cannot_be_reached_by_commands(mortal: BoxProcess) -> None:
    async with dial(mortal) as channel:
        session = await new_session(channel)
        (one,) = containers(mortal)
        with client() as engine:
            keeper = engine.inspect_container(one["Id"])["State"]["Pid"]
        status = status_of(keeper)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << 5 | 1 << 6 | 1 << 7
        assert int(status["CapBnd"], 16) == 0
        result = await session.attempt(
            "ls /.portway/* /proc/1/fd /proc/1/root /proc/1/map_files; cat /proc/1/environ /proc/1/mem; "
            "kill -9 1; kill -STOP 1; : > /proc/1/oom_score_adj; echo -1000 > /proc/self/oom_score_adj; true"
        )
        assert result.stdout == ""
        assert (await session.sh("echo still here")).stdout == "still here\n"


@pytest.mark.parametrize("milliseconds", [0, 5, 20, 50])
async def test_a_box_killed_just_after_a_spawn_leaves_nothing(mortal: BoxProcess, milliseconds: int) -> None:
    mark = new_id("mark")
    async with dial(mortal) as channel:
        session = await new_session(channel)
        (one,) = containers(mortal)
        commands = [asyncio.create_task(session.sh(f"setsid sleep 600 & sleep 600; : {mark}")) for _ in range(12)]
        # The moment of the kill is what is tried here.
        timer = threading.Timer(milliseconds / 1000, mortal.kill)
        timer.start()
        results = await asyncio.gather(*commands, return_exceptions=True)
        timer.join()
    assert all(isinstance(result, PortwayError) for result in results), results
    await until_gone(mark)
    # Without a next start: the keeper ends with its line, the engine then forgets the container.
    await until(lambda: not containers(mortal) and not groups_of(one["Id"]))
    await until_nothing_is_left(mortal)
    mortal.start()
    async with dial(mortal) as channel:
        assert (await (await new_session(channel)).sh("echo again")).stdout == "again\n"


@pytest.mark.parametrize("milliseconds", [0, 40, 120, 250])
async def test_a_box_killed_while_it_makes_a_container_leaves_nothing_after_the_next_start(
    mortal: BoxProcess, milliseconds: int
) -> None:
    async with dial(mortal) as channel:
        timer = threading.Timer(milliseconds / 1000, mortal.kill)
        timer.start()
        made = await asyncio.gather(*(new_session(channel) for _ in range(4)), return_exceptions=True)
        timer.join()
    assert made
    mortal.start()
    await until(lambda: not containers(mortal))
    mortal.stop()
    await until_nothing_is_left(mortal)


async def test_a_container_that_is_killed_is_told_as_lost_and_made_again_with_its_workspace(mortal: BoxProcess) -> None:
    async with dial(mortal) as channel:
        session = await new_session(channel, persistent=True)
        await session.sh("echo kept > file")
        call = await begin(session, "echo up; sleep 600")
        await until_said(call, b"up\n")
        (one,) = containers(mortal)
        with client() as engine:
            engine.kill(one["Id"])
        with pytest.raises(Unavailable, match="lost"):
            while True:
                frame = await next_frame(call)
                assert frame.WhichOneof("kind") != "exit", frame
        assert (await session.sh("cat file")).stdout == "kept\n"
        await session.delete()
        assert containers(mortal) == []


async def test_containers_of_others_are_left_alone(mortal: BoxProcess) -> None:
    engine = docker_engine()
    with client() as api:
        foreign = api.create_container(engine.image, ["true"], labels={"portway.box.installation": "another"})["Id"]
        try:
            async with dial(mortal) as channel:
                await new_session(channel)
                mortal.kill()
            mortal.start()
            assert containers(mortal) == []
            assert api.inspect_container(foreign)["Id"] == foreign
        finally:
            api.remove_container(foreign, force=True)


async def test_places_that_an_image_wants_for_data_are_neither_writable_nor_kept(mortal: BoxProcess) -> None:
    mortal.stop()
    mortal.settings = {"images": {"allow": ["portway-test:*"]}}
    mortal.start()
    with client() as api:
        changes = ["VOLUME /data", 'ENTRYPOINT ["/bin/false"]', "USER nobody", "ENV LEAK=1"]
        made = api.create_container(docker_engine().image, ["true"])["Id"]
        api.commit(made, "portway-test", "volume", changes=changes)
        api.remove_container(made)
        before = {volume["Name"] for volume in api.volumes()["Volumes"] or ()}
    async with dial(mortal) as channel:
        session = await new_session(channel, image="portway-test:volume")
        result = await session.attempt("touch /data/x 2>&1; env; id -u")
        assert "Read-only" in result.stdout or "denied" in result.stdout
        assert "LEAK" not in result.stdout
        await session.delete()
        with pytest.raises(WrongState, match="no image"):
            await new_session(channel, image="not-there:1")
    with client() as api:
        assert {volume["Name"] for volume in api.volumes()["Volumes"] or ()} <= before


async def test_commands_go_on_without_the_engine_and_sessions_end_without_it() -> None:
    if reason := why_no_docker():
        pytest.skip(reason)
    engine, reason = own_engine("mortal")
    assert engine is not None, reason
    settings = {"backend": "docker", "engine": {"docker_socket": engine.socket, "image": engine.image}}
    mark = new_id("mark")
    with box_process(DOCKER, settings=settings) as box:
        box.start()
        async with dial(box) as channel:
            session = await new_session(channel)
            call = await begin(session, f"echo up; setsid sleep 600 & sleep 600; : {mark}")
            await until_said(call, b"up\n")
            os.kill(engine.pid, signal.SIGKILL)
            assert (await session.sh("echo without it")).stdout == "without it\n"
            with pytest.raises(PortwayError) as refused:
                await new_session(channel)
            assert "docker" in refused.value.message
            assert processes_with(mark)
            await session.delete()
            await until_gone(mark)


@contextlib.contextmanager
def plain_box() -> Iterator[BoxProcess]:
    """A box of a plain user who may use the engine."""
    if reason := why_not(DOCKER) or why_not(UNPRIVILEGED):
        pytest.skip(reason)
    engine = docker_engine()
    os.chown(engine.socket, 0, PLAIN_USER)
    os.chmod(engine.socket, 0o660)
    settings = {"backend": "docker", "engine": {"docker_socket": engine.socket, "image": engine.image}}
    with box_process(UNPRIVILEGED, settings=settings) as box:
        box.start()
        yield box


@pytest.fixture
def plain() -> Iterator[BoxProcess]:
    with plain_box() as box:
        yield box


async def test_a_plain_user_with_access_to_the_engine_has_sessions_too(plain: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(plain) as channel:
        status = await ask(channel, box_pb2.GetBoxStatusRequest())
        assert (status.available, status.backend.name, status.backend.mode) == (True, "docker", "unprivileged")
        session = await new_session(channel)
        await session.write("file", b"from outside")
        assert (await session.sh("cat file; echo from inside > other")).stdout == "from outside"
        assert await session.read("other") == b"from inside\n"
        # Everything that a command started ends with it, however it detached itself.
        tree = f"for n in 1 2 3; do (setsid sh -c 'trap \"\" TERM; sleep 600; : {mark}' &) ; done; echo done"
        assert (await session.sh(tree)).stdout == "done\n"
        assert processes_with(mark) == []
        ended = await session.sh(f"(setsid sleep 600 &); sleep 600; : {mark}", timeout=0.5)
        assert ended.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
        await until_gone(mark)
        forks = await session.sh("f() { f | f & }; f; sleep 600", timeout=1.0)
        assert forks.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
        assert (await session.sh("echo well")).stdout == "well\n"
        full = await session.sh("head -c 2000000000 /dev/zero > big 2>&1; echo $?")
        assert full.stdout.strip() != "0"
        await session.delete()
    assert containers(plain) == []


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"docker_socket": "tcp://127.0.0.1:2375", "image": "x"}, "is not on this machine"),
        ({"docker_socket": "ssh://somewhere", "image": "x"}, "is not on this machine"),
        ({"docker_socket": "/nowhere/docker.sock", "image": "x"}, "no socket of docker at /nowhere/docker.sock"),
    ],
)
async def test_an_engine_that_cannot_be_used_is_named_with_the_reason(engine: dict[str, str], said: str) -> None:
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    with box_process(DOCKER, settings={"backend": "docker", "engine": engine}) as box:
        box.start()
        async with dial(box) as channel:
            status = await ask(channel, box_pb2.GetBoxStatusRequest())
            assert not status.available
            assert said in status.reason
            with pytest.raises(WrongState, match="."):
                await new_session(channel)


async def test_auto_takes_docker_where_namespaces_do_not_work() -> None:
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    engine = docker_engine()
    settings = {"backend": "auto", "engine": {"docker_socket": engine.socket, "image": engine.image}}
    with box_process(DOCKER, settings=settings, environment={"PATH": "/nowhere"}) as box:
        box.start()
        async with dial(box) as channel:
            backends = (await ask(channel, box_pb2.GetBackendsRequest())).backends
            assert [(one.name, one.available) for one in backends][:2] == [("docker", True), ("namespace", False)]
            assert "bubblewrap" in backends[1].reason
            assert len(backends[0].probes) > 10
            assert (await (await new_session(channel)).sh("echo in a container")).stdout == "in a container\n"


@pytest.mark.heavy
async def test_a_plain_users_box_says_why_it_shows_no_skills(plain: BoxProcess) -> None:
    async with dial(plain) as channel:
        digest = await put(channel, COUNTING)
        with pytest.raises(WrongState, match="run the box as root"):
            await new_session(channel, skills=[showing("counting", digest)])
        session = await new_session(channel)
        request = skill_mount_pb2.SetSessionSkillsRequest(
            session_id=session.session_id, skills=[showing("counting", digest)]
        )
        with pytest.raises(WrongState, match="run the box as root"):
            await ask(channel, request)
        assert (await session.sh("echo as before")).stdout == "as before\n"
        await session.delete()
