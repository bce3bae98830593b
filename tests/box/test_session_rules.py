"""Sessions under pressure: who shares a creation, what is refused and noted, what they hold, who may watch them."""

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, PortwayError, WrongState
from portway.v1 import box_pb2, process_pb2, session_pb2, session_pb2_grpc
from tests.asking import ask, stream
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, begin, dial, new_session, next_frame, seconds, until_said
from tests.box.test_sessions import MEBI, creating, name
from tests.waiting import until, until_told

SETTINGS: dict[str, Any] = {
    "reap_interval": 0.2,
    "max_sessions": 6,
    "max_sessions_per_workspace": 4,
    "ceiling": {"memory_bytes": 256 * MEBI},
    "profiles": {
        "brief": {"longest_command": 2.0, "default_timeout": 0.5},
        "tight": {"pids": 40, "ttl": 7.0, "locked": ["pids", "ttl", "concurrent_commands", "command_timeout"]},
    },
}


@pytest.fixture(scope="module", params=[ROOT, UNPRIVILEGED])
def small(request: pytest.FixtureRequest) -> Any:
    """A box with little room and profiles of its own."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param, settings=SETTINGS) as running:
        running.start()
        yield running


@pytest.fixture
async def channel(small: BoxProcess) -> Any:
    async with dial(small) as opened:
        yield opened


async def held(channel: PortwayChannel, session_id: str) -> set[str]:
    answer = await ask(channel, session_pb2.ListHeldRequest(session_id=session_id))
    return {item.kind for item in answer.items}


async def test_a_profile_of_the_operator_bounds_and_times_commands(channel: PortwayChannel) -> None:
    session = await new_session(channel, profile="brief")
    request = process_pb2.ExecOnceRequest(
        session_id=session.session_id, command=process_pb2.Command(shell="echo on; sleep 30")
    )
    ended = await ask(channel, request)
    assert (ended.stdout, ended.exit.status) == (b"on\n", process_pb2.EXIT_STATUS_TIMED_OUT)
    assert 0.4 < ended.exit.duration.ToMilliseconds() / 1000
    with pytest.raises(InvalidInput) as caught:
        await session.sh("true", timeout=2.5)
    assert caught.value.fields[0].field == "command.timeout"
    for field, value in (("command_timeout", 2.5), ("default_timeout", 2.5), ("default_timeout", 0)):
        limits = session_pb2.SessionLimits(**{field: seconds(value)})  # type: ignore[arg-type]
        with pytest.raises(InvalidInput) as caught:
            await ask(channel, creating(name(), profile="brief", limits=limits))
        assert caught.value.fields[0].field == f"spec.limits.{field}"
    await session.delete()


async def test_locked_values_stand_over_the_request_and_are_named(channel: PortwayChannel) -> None:
    asked = session_pb2.SessionLimits(pids=100, concurrent_commands=1, command_timeout=seconds(5))
    session_id = name()
    answer = await ask(channel, creating(session_id, profile="tight", limits=asked, ttl=seconds(900)))
    spec = answer.session.spec
    assert (spec.limits.pids, spec.limits.concurrent_commands, spec.ttl.seconds) == (40, 32, 7)
    assert spec.limits.command_timeout.seconds == 600
    assert set(answer.session.locked_fields) == {
        "spec.limits.pids", "spec.limits.concurrent_commands", "spec.limits.command_timeout", "spec.ttl"
    }  # fmt: skip
    # What is locked differs from no request.
    assert (await ask(channel, creating(session_id, profile="tight", limits=asked, ttl=seconds(1)))).existed
    await Inside(channel, session_id).delete()


async def test_what_a_profile_gives_ends_where_the_box_does(channel: PortwayChannel) -> None:
    session_id = name()
    answer = await ask(channel, creating(session_id))
    assert answer.session.spec.limits.memory_bytes == 256 * MEBI
    with pytest.raises(InvalidInput) as caught:
        await ask(channel, creating(name(), limits=session_pb2.SessionLimits(memory_bytes=300 * MEBI)))
    assert caught.value.fields[0].field == "spec.limits.memory_bytes"
    await Inside(channel, session_id).delete()


async def test_every_field_that_differs_is_named_also_one_that_says_no(channel: PortwayChannel) -> None:
    session_id = name()
    await ask(channel, creating(session_id, env={"A": "1"}, working_directory="/tmp", labels={"a": "b"}))
    differing: list[tuple[dict[str, Any], str]] = [
        ({"read_only_root": False}, "spec.read_only_root"),
        ({"env": {"A": "2"}}, "spec.env"),
        ({"labels": {"a": "c"}}, "spec.labels"),
        ({"working_directory": "/workspace"}, "spec.working_directory"),
        ({"ttl": seconds(9)}, "spec.ttl"),
        ({"persistent": True}, "spec.persistent"),
        ({"profile": "tight"}, "spec.profile"),
        ({"extra_mounts": [session_pb2.Mount(source="/srv/x", target="/x")]}, "spec.extra_mounts"),
        ({"limits": session_pb2.SessionLimits(default_timeout=seconds(3))}, "spec.limits.default_timeout"),
        ({"limits": session_pb2.SessionLimits(disk_bytes=MEBI)}, "spec.limits.disk_bytes"),
    ]
    for spec, field in differing:
        with pytest.raises(WrongState) as caught:
            await ask(channel, creating(session_id, **spec))
        assert [one.field for one in caught.value.fields] == [field]
    assert (await ask(channel, creating(session_id, read_only_root=True))).existed
    await Inside(channel, session_id).delete()


async def test_sessions_are_bounded_for_a_workspace_and_in_all(small: BoxProcess, channel: PortwayChannel) -> None:
    own = [await new_session(channel) for _ in range(4)]
    with pytest.raises(LimitExceeded, match="workspace 'default'"):
        await ask(channel, creating(name()))
    async with dial(small, "foreign") as foreign:
        others = [await new_session(foreign) for _ in range(2)]
        with pytest.raises(LimitExceeded, match="this box"):
            await ask(foreign, creating(name()))
        # Making one of many at once takes each place once.
        await own.pop().delete()
        tried = await asyncio.gather(*(ask(channel, creating(name())) for _ in range(5)), return_exceptions=True)
        made = [one for one in tried if not isinstance(one, BaseException)]
        assert len(made) == 1 and all(isinstance(one, LimitExceeded) for one in tried if one not in made)
        own.append(Inside(channel, made[0].session.session_id))
        errors = (await ask(channel, box_pb2.ListErrorsRequest(page_size=200))).errors
        assert {"QUOTA_EXCEEDED"} <= {error.code for error in errors}
        seen = (await ask(foreign, box_pb2.ListErrorsRequest(page_size=200))).errors
        assert {error.workspace_id for error in seen} <= {"", "elsewhere"}
        assert any(error.code == "QUOTA_EXCEEDED" for error in seen)
        await asyncio.gather(*(session.delete() for session in [*own, *others]))


async def test_a_caller_that_goes_away_leaves_its_session_to_others(channel: PortwayChannel) -> None:
    stub = session_pb2_grpc.SessionServiceStub(channel)
    session_id = name()
    for persistent in (False, True):
        wanted = creating(session_id, persistent=persistent)
        first = stub.CreateSession(wanted)
        await first.wait_for_connection()
        first.cancel()
        assert (await ask(channel, wanted)).session.state == session_pb2.SESSION_STATE_READY
        await Inside(channel, session_id).delete()


async def test_deleting_while_it_is_made_ends_both_and_leaves_nothing(channel: PortwayChannel) -> None:
    session_id = name()
    for _ in range(6):
        answers: Any = await asyncio.gather(
            ask(channel, creating(session_id)),
            ask(channel, session_pb2.DeleteSessionRequest(session_id=session_id)),
            return_exceptions=True,
        )
        made, gone = answers
        assert isinstance(gone, NotFound | session_pb2.DeleteSessionResponse), gone
        if not isinstance(made, BaseException):
            await Inside(channel, session_id).delete()
        # The child of the launcher that mounted it may take a moment more to end.
        await until_told(lambda: _holds_nothing(channel, session_id))


async def _holds_nothing(channel: PortwayChannel, session_id: str) -> bool:
    return not await held(channel, session_id)


async def test_deleting_during_a_command_is_no_success_of_it(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    call = await begin(session, "echo began; sleep 60")
    await until_said(call, b"began")
    killed = await session.delete()
    assert killed.killed_process_count >= 1
    with pytest.raises((PortwayError, AssertionError)):
        while not (frame := await next_frame(call)).HasField("exit"):
            pass
        assert frame.exit.status == process_pb2.EXIT_STATUS_COMPLETED
    assert await held(channel, session.session_id) == set()


async def test_what_a_session_holds_is_listed_and_is_nothing_after_its_end(
    small: BoxProcess, channel: PortwayChannel
) -> None:
    session = await new_session(channel)
    call = await begin(session, "sleep 60")
    await until_told(lambda: _holds(channel, session.session_id, "command"))
    kinds = await held(channel, session.session_id)
    assert {"session", "command", "workspace"} <= kinds
    if small.mode == ROOT:
        assert {"control_group", "loop_device"} & kinds
    pages = session_pb2.ListHeldRequest(session_id=session.session_id, page_size=1)
    first = await ask(channel, pages)
    assert len(first.items) == 1 and first.next_page_token
    call.cancel()
    await session.delete()
    assert await held(channel, session.session_id) == set()
    with pytest.raises(NotFound):
        await held(channel, "never-was")


async def _holds(channel: PortwayChannel, session_id: str, kind: str) -> bool:
    return kind in await held(channel, session_id)


async def test_a_persistent_session_and_one_that_works_outlive_their_time(channel: PortwayChannel) -> None:
    kept = await new_session(channel, persistent=True, ttl=seconds(0.3))
    busy = await new_session(channel, ttl=seconds(0.3))
    start = process_pb2.StartProcessRequest(
        session_id=busy.session_id, process_id="p", command=process_pb2.Command(shell="sleep 600")
    )
    await ask(channel, start)
    idle = await new_session(channel, ttl=seconds(0.3))

    async def gone(session: Inside) -> bool:
        try:
            await ask(channel, session_pb2.GetSessionRequest(session_id=session.session_id))
        except NotFound:
            return True
        return False

    await until_told(lambda: gone(idle))
    assert not await gone(busy) and not await gone(kept)
    stop = process_pb2.StopProcessRequest(session_id=busy.session_id, process_id="p", grace=seconds(0))
    await ask(channel, stop)
    await until_told(lambda: gone(busy))
    assert not await gone(kept)
    await kept.delete()


async def test_a_watch_tells_of_sessions_with_its_labels_only(channel: PortwayChannel) -> None:
    seen: list[session_pb2.WatchSessionsResponse] = []

    async def watch() -> None:
        async for event in stream(channel, session_pb2.WatchSessionsRequest(labels={"k": "v"})):
            seen.append(event)

    watching = asyncio.create_task(watch())
    await until(lambda: len(seen) == 1)
    assert seen[0].HasField("snapshot") and not seen[0].snapshot.sessions
    other = await new_session(channel, labels={"k": "w"})
    mine = await new_session(channel, labels={"k": "v", "more": "x"})
    await other.delete()
    await mine.delete()
    await until(lambda: seen[-1].deleted.session_id == mine.session_id)
    told = {getattr(event, event.WhichOneof("kind") or "").session_id for event in seen[1:]}
    assert told == {mine.session_id}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_figures_of_each_session_are_told(channel: PortwayChannel, small: BoxProcess) -> None:
    session = await new_session(channel)
    await session.sh("head -c 3000000 /dev/zero > x")
    request = box_pb2.WatchStatsRequest(with_sessions=True)
    async for figures in stream(channel, request):
        (own,) = [one for one in figures.sessions if one.session_id == session.session_id]
        assert own.usage.command_count >= 1 and own.usage.disk_bytes >= 3_000_000
        if small.mode == ROOT:
            assert own.usage.peak_memory_bytes >= own.usage.memory_bytes > 0
        break
    async with dial(small, "foreign") as foreign:
        async for figures in stream(foreign, request):
            assert not figures.sessions
            break
    await session.delete()


async def test_probes_can_be_required_by_a_session(channel: PortwayChannel) -> None:
    backends = (await ask(channel, box_pb2.GetBackendsRequest())).backends
    measured = [probe.name for probe in backends[0].probes]
    session_id = name()
    answer = await ask(channel, creating(session_id, require_probes=[*measured, "all"]))
    assert set(answer.session.spec.require_probes) == {*measured, "all"}
    with pytest.raises(WrongState, match="no such probe"):
        await ask(channel, creating(name(), require_probes=["no such probe"]))
    await Inside(channel, session_id).delete()


async def test_an_operator_can_require_probes_of_every_session() -> None:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode, settings={"require_probes": ["mount", "no escape by magic"]}) as box:
        box.start()
        async with dial(box) as channel:
            assert (await ask(channel, box_pb2.GetBackendsRequest())).required_probes == ["mount", "no escape by magic"]
            with pytest.raises(WrongState, match="no escape by magic"):
                await ask(channel, creating(name()))


async def test_a_caller_of_one_workspace_drains_nobody_elses_work(small: BoxProcess) -> None:
    async with dial(small, "foreign") as foreign:
        for request in (box_pb2.DrainBoxRequest(), box_pb2.ShutdownBoxRequest()):
            with pytest.raises(NotPermitted):
                await ask(foreign, request)


async def test_a_box_that_drains_says_so_in_its_health() -> None:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def state(service: str = "") -> int:
                return int((await health.Check(health_pb2.HealthCheckRequest(service=service))).status)

            assert await state() == health_pb2.HealthCheckResponse.SERVING
            await ask(channel, box_pb2.DrainBoxRequest(grace=seconds(0)))
            for service in ("", "portway.v1.SessionService", "portway.v1.ProcessService"):
                assert await state(service) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await ask(channel, box_pb2.GetBoxStatusRequest())).draining
