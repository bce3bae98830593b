"""A session in a container of a real Podman, through its service that speaks Docker's language."""

import pytest

from portway.v1 import box_pb2, image_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box import roots
from tests.box.box_process import ROOT, box_process, why_not
from tests.box.inside import dial, new_session
from tests.box.machine import until_nothing_is_left
from tests.engines.podman import podman_service, why_no_podman


@pytest.mark.heavy
async def test_a_session_in_podman_is_measured_used_and_gone() -> None:
    if reason := why_no_podman() or why_not(ROOT):
        pytest.skip(reason)
    with podman_service() as podman:
        settings = {"backend": "podman", "engine": {"podman_socket": podman.socket, "image": podman.image}}
        with box_process(ROOT, settings=settings) as box:
            box.start()
            async with dial(box) as channel:
                status = await ask(channel, box_pb2.GetBoxStatusRequest())
                assert (status.available, status.backend.name) == (True, "podman"), status.reason
                assert all(probe.contained for probe in status.backend.probes)
                assert not status.backend.unenforced_limits
                session = await new_session(channel)
                await session.write("file", b"from outside")
                assert (await session.sh("cat file; touch /usr/x 2>/dev/null || echo closed")).stdout.endswith(
                    "closed\n"
                )
                ended = await session.sh("(setsid sleep 600 &); sleep 600", timeout=0.5)
                assert ended.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
                await session.delete()
                listed = session_pb2.NetworkPolicy(mode=session_pb2.NETWORK_MODE_ALLOW_LIST, allow=["a.test"])
                for policy in (listed, session_pb2.NetworkPolicy(mode=session_pb2.NETWORK_MODE_ON)):
                    session = await new_session(channel, network=policy)
                    assert (await session.sh("cat /etc/resolv.conf")).stdout.startswith("nameserver 127.0.0.1")
                    await session.delete()
                archive = roots.docker_archive(roots.root_tar(), config={"Env": ["TOOL=x"]})
                await roots.import_image(channel, "own:1", archive)
                last = (await roots.validate(channel, "own:1"))[-1]
                assert last.stage == image_pb2.IMAGE_VALIDATION_STAGE_COMPLETED, last
                session = await new_session(channel, image="own:1")
                assert (await session.sh("cat /etc/issue; echo $TOOL")).stdout == "hand-made\nx\n"
                await session.delete()
                await ask(channel, image_pb2.RemoveImageRequest(name="own:1"))
            box.stop()
            await until_nothing_is_left(box)
