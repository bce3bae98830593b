"""Sessions: made once, compared, bounded, found, watched, removed when nobody uses them."""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, PortwayError, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2, file_pb2, process_pb2, session_pb2, session_pb2_grpc
from tests.asking import ask
from tests.box.box_process import ROOT, BoxProcess, box_process, why_not
from tests.box.inside import Inside, begin, dial, enforces, new_session, seconds, until_said
from tests.waiting import until

MEBI = 1024 * 1024
Stream = grpc.aio.StreamStreamCall[bytes, bytes]


def creating(session_id: str, workspace_id: str = "", **spec: Any) -> session_pb2.CreateSessionRequest:
    wanted = session_pb2.SessionSpec(**spec)
    return session_pb2.CreateSessionRequest(session_id=session_id, workspace_id=workspace_id, spec=wanted)


def name() -> str:
    return new_id("tst").replace("_", "-")


async def test_making_a_session_twice_returns_the_first(channel: PortwayChannel, inside: Inside) -> None:
    await inside.write("kept.txt", b"kept")
    answer = await ask(channel, creating(inside.session_id))
    assert answer.existed
    assert await inside.read("kept.txt") == b"kept"


async def test_many_who_ask_for_one_session_at_once_share_it(channel: PortwayChannel) -> None:
    session_id = name()
    answers = await asyncio.gather(*(ask(channel, creating(session_id)) for _ in range(10)))
    assert sum(not answer.existed for answer in answers) == 1
    assert {answer.session.state for answer in answers} == {session_pb2.SESSION_STATE_READY}
    await Inside(channel, session_id).delete()


async def test_another_spec_is_refused_with_the_fields_that_differ(channel: PortwayChannel) -> None:
    session_id = name()
    first: dict[str, Any] = {"env": {"A": "1"}, "limits": session_pb2.SessionLimits(memory_bytes=128 * MEBI, pids=50)}
    await ask(channel, creating(session_id, **first))
    with pytest.raises(WrongState) as caught:
        limits = session_pb2.SessionLimits(memory_bytes=256 * MEBI, pids=50)
        await ask(channel, creating(session_id, env={"A": "2"}, limits=limits, labels={"x": "y"}))
    assert {field.field for field in caught.value.fields} == {"spec.env", "spec.limits.memory_bytes", "spec.labels"}
    assert (await ask(channel, creating(session_id, env={"A": "1"}))).existed
    assert (await ask(channel, creating(session_id))).existed
    await Inside(channel, session_id).delete()


async def test_a_session_of_another_workspace_has_another_life(channel: PortwayChannel, box: BoxProcess) -> None:
    session_id = name()
    one = await ask(channel, creating(session_id))
    async with dial(box, "foreign") as foreign:
        other = await ask(foreign, creating(session_id))
        assert not other.existed
        assert (one.session.workspace_id, other.session.workspace_id) == ("default", "elsewhere")
        await Inside(channel, session_id).write("mine.txt", b"mine")
        with pytest.raises(NotFound):
            await Inside(foreign, session_id).read("mine.txt")
        with pytest.raises(NotFound):
            await ask(foreign, session_pb2.GetSessionRequest(session_id=session_id, workspace_id="default"))
        await Inside(foreign, session_id).delete()
    await Inside(channel, session_id).delete()


async def test_a_foreign_and_a_missing_session_give_the_same_answer(channel: PortwayChannel, box: BoxProcess) -> None:
    session_id = name()
    await ask(channel, creating(session_id))
    async with dial(box, "foreign") as foreign:
        answers = []
        for wanted, workspace in ((session_id, ""), ("no-such", ""), (session_id, "default"), ("no-such", "default")):
            request = session_pb2.GetSessionRequest(session_id=wanted, workspace_id=workspace)
            with pytest.raises(NotFound) as caught:
                await ask(foreign, request)
            answers.append(str(caught.value).replace(wanted, "ID").replace(repr("default"), "'ID'"))
    assert len(set(answers)) == 1
    await Inside(channel, session_id).delete()


async def test_deleting_twice_is_fine_and_deleting_what_never_was_is_not_found(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    await session.delete()
    await session.delete()
    with pytest.raises(NotFound):
        await ask(channel, session_pb2.DeleteSessionRequest(session_id="never-was"))


async def test_nothing_of_a_deleted_session_is_there_when_it_is_made_again(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    await session.sh("echo old > /workspace/a; echo old > /tmp/b")
    await session.delete()
    again = await new_session(channel, session_id=session.session_id)
    assert (await again.sh("ls /workspace /tmp | grep -v :")).stdout.split() == []
    await again.delete()


async def test_a_session_is_made_again_while_the_one_before_still_goes(channel: PortwayChannel) -> None:
    session_id = name()
    await ask(channel, creating(session_id))
    for _ in range(8):
        gone = session_pb2.DeleteSessionRequest(session_id=session_id)
        _, made, again = await asyncio.gather(
            ask(channel, gone), ask(channel, creating(session_id)), ask(channel, creating(session_id))
        )
        assert {made.session.state, again.session.state} == {session_pb2.SESSION_STATE_READY}
    await Inside(channel, session_id).delete()


async def test_an_idle_session_is_removed_and_one_in_use_is_not(channel: PortwayChannel) -> None:
    idle = await new_session(channel, ttl=seconds(0.3))
    busy = await new_session(channel, ttl=seconds(0.3))
    call = await begin(busy, "sleep 60")
    await _until_gone(channel, idle.session_id)
    assert (await ask(channel, session_pb2.GetSessionRequest(session_id=busy.session_id))).session.running_count == 1
    call.cancel()
    await _until_gone(channel, busy.session_id)


async def _until_gone(channel: PortwayChannel, session_id: str) -> None:
    gone = asyncio.Event()

    async def watch() -> None:
        call = session_pb2_grpc.SessionServiceStub(channel).WatchSessions(session_pb2.WatchSessionsRequest())
        async for event in call:
            if event.deleted.session_id == session_id:
                break
            if event.HasField("snapshot") and session_id not in {one.session_id for one in event.snapshot.sessions}:
                break
        call.cancel()
        gone.set()

    watching = asyncio.create_task(watch())
    await until(gone.is_set)
    await watching


async def test_a_watch_tells_what_is_there_and_then_each_change(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    call = session_pb2_grpc.SessionServiceStub(channel).WatchSessions(session_pb2.WatchSessionsRequest())
    first = await call.read()
    assert isinstance(first, session_pb2.WatchSessionsResponse)
    assert session.session_id in {one.session_id for one in first.snapshot.sessions}
    other = await new_session(channel)
    await other.delete()
    seen: list[str] = []
    while not seen or seen[-1] != "deleted":
        event = await call.read()
        assert isinstance(event, session_pb2.WatchSessionsResponse)
        kind = event.WhichOneof("kind")
        assert kind is not None
        if getattr(event, kind).session_id == other.session_id:
            seen.append(kind)
    call.cancel()
    await session.delete()


async def test_sessions_are_listed_by_label_and_in_pages(channel: PortwayChannel) -> None:
    label = {"test": name()}
    made = [await new_session(channel, labels=label) for _ in range(5)]
    found: list[str] = []
    token = ""
    while True:
        request = session_pb2.ListSessionsRequest(labels=label, page_size=2, page_token=token)
        page = await ask(channel, request)
        assert len(page.sessions) <= 2
        found += [session.session_id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert found == [session.session_id for session in reversed(made)]
    with pytest.raises(InvalidInput):
        await ask(channel, session_pb2.ListSessionsRequest(page_token="forged"))
    await asyncio.gather(*(session.delete() for session in made))


async def test_a_profile_gives_values_and_its_locks_stand_over_the_request(channel: PortwayChannel) -> None:
    session_id = name()
    answer = await ask(
        channel,
        creating(
            session_id,
            profile="offline_readonly",
            network=session_pb2.NetworkPolicy(mode=session_pb2.NETWORK_MODE_ON),
            read_only_root=False,
            limits=session_pb2.SessionLimits(pids=77),
        ),
    )
    spec = answer.session.spec
    assert (spec.limits.cpu_millis, spec.limits.memory_bytes, spec.limits.pids) == (500, 256 * MEBI, 77)
    assert spec.network.mode == session_pb2.NETWORK_MODE_OFF
    assert spec.read_only_root
    await Inside(channel, session_id).delete()


async def test_a_writable_root_can_be_written_to_but_not_the_system_in_it(
    channel: PortwayChannel, box: BoxProcess
) -> None:
    if box.has_image:
        pytest.skip("an image's root is writable where the image lets its users write: see test_containers.py")
    session = await new_session(channel, read_only_root=False)
    result = await session.attempt(
        "echo x > /own && cat /own; mkdir /opt && touch /opt/y && ls /opt; touch /usr/x 2>&1; echo $?"
    )
    lines = result.stdout.splitlines()
    assert lines[:2] == ["x", "y"]
    assert lines[-1] != "0"
    assert (await session.sh("cat /own")).stdout == "x\n"
    await session.delete()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"profile": "none-such"}, "spec.profile"),
        ({"limits": session_pb2.SessionLimits(memory_bytes=1 << 50)}, "spec.limits.memory_bytes"),
        ({"limits": session_pb2.SessionLimits(memory_bytes=1)}, "spec.limits.memory_bytes"),
        ({"limits": session_pb2.SessionLimits(pids=-1)}, "spec.limits.pids"),
        ({"limits": session_pb2.SessionLimits(command_timeout=seconds(10**6))}, "spec.limits.command_timeout"),
        ({"working_directory": "relative"}, "spec.working_directory"),
        ({"working_directory": "/etc"}, "spec.working_directory"),
        ({"working_directory": "/workspace/../etc"}, "spec.working_directory"),
        ({"env": {"A=B": "x"}}, "spec.env"),
        ({"env": {"A": "x\0"}}, "spec.env"),
        ({"ttl": seconds(-5)}, "spec.ttl"),
        ({"workspace_source": "/etc"}, "spec.workspace_source"),
        ({"network": session_pb2.NetworkPolicy(allow=["example.org:443"])}, "spec.network.allow"),
        ({"extra_mounts": [session_pb2.Mount(source="/srv/data", target="/data")]}, "spec.extra_mounts[0].source"),
        (
            {"extra_mounts": [session_pb2.Mount(source="/srv/data", target="/workspace/x")]},
            "spec.extra_mounts[0].target",
        ),
        ({"extra_mounts": [session_pb2.Mount(source="/srv/data", target="data")]}, "spec.extra_mounts[0].target"),
        ({"extra_mounts": [session_pb2.Mount(source="/srv/data", target="/a/../proc")]}, "spec.extra_mounts[0].target"),
        ({"extra_mounts": [session_pb2.Mount(source="/srv/data", target="/")]}, "spec.extra_mounts[0].target"),
    ],
)
async def test_a_spec_that_cannot_be_is_refused_with_its_field(
    channel: PortwayChannel, spec: Mapping[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await ask(channel, creating(name(), **spec))
    assert caught.value.fields[0].field == field


@pytest.mark.parametrize("session_id", ["", "../x", "a/b", "a b", "-x", "x" * 201, "a\0b", "ü"])
async def test_a_session_id_has_only_plain_characters(channel: PortwayChannel, session_id: str) -> None:
    with pytest.raises(InvalidInput):
        await ask(channel, creating(session_id))


async def test_what_the_backend_cannot_give_is_said(channel: PortwayChannel) -> None:
    with pytest.raises(WrongState, match="image"):
        await ask(channel, creating(name(), image="debian:12"))


async def test_roles_and_tokens_decide_who_may_do_what(box: BoxProcess, inside: Inside) -> None:
    get = session_pb2.GetSessionRequest(session_id=inside.session_id)
    run = process_pb2.ExecOnceRequest(session_id=inside.session_id, command=process_pb2.Command(shell="true"))
    async with dial(box, "viewer") as viewer:
        assert (await ask(viewer, get)).session.session_id == inside.session_id
        with pytest.raises(NotPermitted):
            await ask(viewer, run)
        with pytest.raises(NotPermitted):
            await ask(viewer, creating(name()))
    async with dial(box, "member") as member:
        with pytest.raises(NotPermitted):
            await ask(member, get)
    async with dial(box, "service") as service:
        assert (await ask(service, run)).exit.exit_code == 0
        with pytest.raises(NotPermitted):
            await ask(service, box_pb2.ShutdownBoxRequest())
    wrong = box.tokens["admin"].text[:-4] + "0000"
    for token in (wrong, "nonsense", "pw_admin_" + "0" * 32 + "_" + "0" * 64):
        async with open_channel(box.address, token=token) as nobody:
            with pytest.raises(NotAuthenticated):
                await ask(nobody, get)


async def test_every_method_needs_a_token(box: BoxProcess) -> None:
    async with grpc.aio.insecure_channel(box.address) as channel:
        for file in (session_pb2, process_pb2, file_pb2, box_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    call: Stream = channel.stream_stream(f"/{service.full_name}/{method.name}")()
                    with pytest.raises(NotAuthenticated), errors_by_meaning():
                        await call.read()


async def test_usage_is_told(inside: Inside, channel: PortwayChannel, box: BoxProcess) -> None:
    await inside.sh("head -c 3000000 /dev/urandom > file")
    call = await begin(inside, "echo runs; sleep 60")
    await until_said(call, b"runs")
    session = (await ask(channel, session_pb2.GetSessionRequest(session_id=inside.session_id))).session
    assert session.usage.disk_bytes >= 3_000_000
    assert session.running_count == 1
    if await enforces(channel, "memory"):
        assert session.usage.memory_bytes > 0
        assert session.usage.pids >= 1
        assert not session.unenforced_limits
    else:
        assert any("memory" in limit for limit in session.unenforced_limits)
        assert "cpu_millis" in session.unenforced_limits
    call.cancel()


async def test_status_tells_the_mode_and_what_was_measured(channel: PortwayChannel, box: BoxProcess) -> None:
    status = await ask(channel, box_pb2.GetBoxStatusRequest())
    assert (status.enabled, status.available, status.backend.mode) == (True, True, ROOT if box.has_image else box.mode)
    assert len(status.backend.probes) > 10
    assert all(probe.contained for probe in status.backend.probes)
    backends = (await ask(channel, box_pb2.GetBackendsRequest())).backends
    assert [backend.available for backend in backends] == [True, box.has_image, False, False, False]
    assert all(backend.reason for backend in backends)


async def test_a_mount_shows_what_is_allowed_and_nothing_else() -> None:
    if reason := why_not(ROOT):
        pytest.skip(reason)
    with box_process(ROOT) as box, tempfile.TemporaryDirectory(prefix="portway-shared-") as folder:
        shared = Path(folder) / "shared"
        (shared / "sub").mkdir(parents=True)
        (shared / "file.txt").write_text("shared")
        (shared / "link").symlink_to("/etc")
        os.chmod(folder, 0o755)
        box.settings = {"mount_roots": [str(shared)]}
        box.start()
        async with dial(box) as channel:
            mount = session_pb2.Mount(source=str(shared), target="/data/in", mode=session_pb2.MOUNT_MODE_READ_ONLY)
            empty = session_pb2.Mount(target="/data/none", mode=session_pb2.MOUNT_MODE_NONE)
            session = await new_session(channel, extra_mounts=[mount, empty], working_directory="/data/in")
            result = await session.attempt("cat file.txt; touch new 2>/dev/null || echo read-only; ls /data/none; pwd")
            assert result.stdout == "sharedread-only\n/data/in\n"
            assert await session.read("file.txt") == b"shared"
            with pytest.raises(NotPermitted):
                await session.write("new.txt", b"x")
            with pytest.raises(NotPermitted):
                await session.read("link/passwd")
            for source in (shared / "link", Path("/etc"), shared / "..", Path("/"), box.data, box.folder):
                with pytest.raises(InvalidInput):
                    await ask(
                        channel, creating(name(), extra_mounts=[session_pb2.Mount(source=str(source), target="/d")])
                    )
            with pytest.raises(InvalidInput):
                twice = [mount, session_pb2.Mount(source=str(shared), target="/data/in/sub")]
                await ask(channel, creating(name(), extra_mounts=twice))


async def test_a_box_without_bubblewrap_serves_and_says_why_it_cannot_run() -> None:
    if reason := why_not(ROOT):
        pytest.skip(reason)
    with box_process(ROOT, environment={"PATH": "/nowhere"}) as box:
        box.start()
        async with dial(box) as channel:
            status = await ask(channel, box_pb2.GetBoxStatusRequest())
            assert (status.enabled, status.available) == (True, False)
            assert "bubblewrap is not installed" in status.reason
            with pytest.raises(WrongState, match="bubblewrap is not installed"):
                await ask(channel, creating(name()))
            assert (await ask(channel, session_pb2.ListSessionsRequest())).sessions == []
            errors = await ask(channel, box_pb2.ListErrorsRequest())
            assert any("bubblewrap" in error.message for error in errors.errors)


async def test_a_box_that_is_switched_off_says_so() -> None:
    if reason := why_not(ROOT):
        pytest.skip(reason)
    with box_process(ROOT, settings={"enabled": False}) as box:
        box.start()
        async with dial(box) as channel:
            assert not (await ask(channel, box_pb2.GetBoxStatusRequest())).enabled
            with pytest.raises(PortwayError, match="switched off"):
                await ask(channel, creating(name()))
