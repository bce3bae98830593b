"""Network policies of sessions, of profiles and of operators."""

import pytest

from portway.rpc.errors import InvalidInput, WrongState
from portway.v1.session_pb2 import NetworkPolicy
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import dial, new_session
from tests.box.network.internet import Internet
from tests.box.network.world import ALLOW_LIST, OFF, ON, run


async def test_the_environment_of_the_caller_stands_over_the_proxy(box: BoxProcess) -> None:
    async with dial(box) as channel:
        policy = NetworkPolicy(mode=ALLOW_LIST, allow=["public.test"])
        session = await new_session(channel, network=policy, env={"http_proxy": "http://mine.test"})
        result = await session.attempt("echo $http_proxy $https_proxy $no_proxy", env={"no_proxy": "all"})
        assert result.stdout.split() == ["http://mine.test", "http://127.0.0.1:8118", "all"]
        await session.delete()


async def test_profiles_with_a_network_have_one(box: BoxProcess, outside: Internet) -> None:
    async with dial(box) as channel:
        for profile in ("network_basic", "network_extended"):
            session = await new_session(channel, profile=profile)
            assert await run(session, f"print(reach('{outside.public}', 7))") == ["answered"]
            await session.delete()
        locked = await new_session(channel, profile="offline_readonly", network=NetworkPolicy(mode=ON))
        assert await run(locked, f"print(reach('{outside.public}', 7))") == ["OSError"]
        await locked.delete()


async def test_a_policy_is_part_of_what_a_session_is(box: BoxProcess) -> None:
    async with dial(box) as channel:
        policy = NetworkPolicy(mode=ALLOW_LIST, allow=["B.test:80", "a.test."])
        session = await new_session(channel, network=policy)
        same = NetworkPolicy(mode=ALLOW_LIST, allow=["a.test", "b.test:80", "b.test:80"])
        await new_session(channel, session_id=session.session_id, network=same)
        for other in (
            NetworkPolicy(mode=ALLOW_LIST, allow=["a.test"]),
            NetworkPolicy(mode=ON),
            NetworkPolicy(mode=OFF),
        ):
            with pytest.raises(WrongState) as caught:
                await new_session(channel, session_id=session.session_id, network=other)
            assert [violation.field for violation in caught.value.fields] == ["spec.network"]
        await session.delete()


@pytest.mark.parametrize(
    ("allow", "field"),
    [
        (["a.test", "*"], "spec.network.allow[1]"), (["http://a.test"], "spec.network.allow[0]"),
        (["a.test:0"], "spec.network.allow[0]"), (["127.1:80"], "spec.network.allow[0]"), ([], "spec.network.allow"),
    ],
)  # fmt: skip
async def test_a_list_that_cannot_be_meant_is_refused_by_its_field(
    box: BoxProcess, allow: list[str], field: str
) -> None:
    async with dial(box) as channel:
        with pytest.raises(InvalidInput) as caught:
            await new_session(channel, network=NetworkPolicy(mode=ALLOW_LIST, allow=allow))
        assert [violation.field for violation in caught.value.fields] == [field]


async def test_an_operator_takes_modes_away(outside: Internet) -> None:
    mode = ROOT if not why_not(ROOT) else UNPRIVILEGED
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode, settings={"network": {"modes": ["off", "allow_list"]}}) as strict:
        strict.start()
        async with dial(strict) as channel:
            with pytest.raises(WrongState, match=r"box\.network\.modes"):
                await new_session(channel, profile="network_basic")
            await new_session(channel, network=NetworkPolicy(mode=ALLOW_LIST, allow=["a.test"]))
            await new_session(channel)
