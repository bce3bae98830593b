"""Every method of a real box."""

from random import Random

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from portway.rpc.channel import open_channel
from portway.rpc.describe import contract_services
from portway.v1 import box_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, box_process, why_not
from tests.fuzz.attack import Attack, Target, seconds, seed
from tests.fuzz.box_samples import samples
from tests.fuzz.machine import descriptors, resident
from tests.waiting import until

USUAL = 3.0
MOST_GROWTH = 100 << 20
SERVICES = (
    "BoxService",
    "FileService",
    "ImageService",
    "ProcessService",
    "SessionService",
    "SkillMountService",
    "SocketService",
)
MOST_SESSIONS = 6


def spared(method: MethodDescriptor, _request: Message) -> bool:
    return method.name in ("ShutdownBox", "DrainBox")


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED])
async def test_nothing_that_is_sent_to_the_box_breaks_it(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    number = seed()
    print(f"PORTWAY_FUZZ_SEED={number}")
    settings = {"search_timeout": 1.0, "max_sessions": MOST_SESSIONS}
    with box_process(mode, settings=settings, environment={"CANARY": "canary-of-the-box"}) as box:
        box.start()
        tokens = {name: token.text for name, token in box.tokens.items()}

        def token_of(_method: MethodDescriptor, random: Random) -> str:
            chance = random.random()
            if chance < 0.02:
                return random.choice(("", "pw_admin_x"))
            return random.choice(list(tokens.values())) if chance < 0.2 else tokens["admin"]

        services = [service for service in contract_services() if service.name in SERVICES]
        secrets = [*tokens.values(), "canary-of-the-box", str(box.data)]
        target = Target(box.address, services, token_of, secrets=secrets, spared=spared)
        for sample in samples():
            target.known.learn(sample)
        async with open_channel(box.address, token=tokens["admin"]) as channel:

            async def make_room() -> None:
                page = await ask(channel, session_pb2.ListSessionsRequest(workspace_id="default"))
                for session in page.sessions[: max(0, len(page.sessions) - MOST_SESSIONS // 2)]:
                    gone = session_pb2.DeleteSessionRequest(session_id=session.session_id, workspace_id="default")
                    await ask(channel, gone)

            attack = Attack(target, number)
            await attack.round()
            await make_room()
            before, memory = descriptors(box.pid), resident(box.pid)
            await attack.go_on(seconds(USUAL), make_room, least=10)
            assert not attack.problems, f"PORTWAY_FUZZ_SEED={number}\n" + "\n".join(attack.problems[:5]) + box.log()
            # Each session holds some.
            await until(lambda: descriptors(box.pid) <= before + 16 * MOST_SESSIONS)
            assert resident(box.pid) < memory + MOST_GROWTH
            status = await ask(channel, box_pb2.GetBoxStatusRequest())
            assert status.available
            print(dict(attack.codes), len(attack.well))
        assert "bug in a handler" not in box.log()
