"""What an image can do to the keeper of its containers, which is root there and speaks to the box: nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.rpc.errors import Unavailable
from portway.rpc.ids import new_id
from tests.box import roots
from tests.box.box_process import DOCKER, BoxProcess, box_process, why_not
from tests.box.inside import dial, new_session
from tests.box.test_containers import client, containers
from tests.engines.dockerd import docker_engine


@pytest.fixture(scope="module")
def box() -> Iterator[BoxProcess]:
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    with box_process(DOCKER, settings={"images": {"allow": ["portway-test:*"]}}) as running:
        running.start()
        yield running


def keeper_of(box: BoxProcess) -> Path:
    """Its folder in the machine's /proc."""
    (one,) = containers(box)
    with client() as engine:
        return Path("/proc", str(engine.inspect_container(one["Id"])["State"]["Pid"]))


@pytest.mark.parametrize("by", ["a file", "a link"])
async def test_libraries_that_an_image_wants_loaded_first_are_not_in_the_keeper(box: BoxProcess, by: str) -> None:
    library = next(data for path, data in roots.small_root().items() if "libc." in path)
    preload = roots.file("etc/ld.so.preload", b"/opt/first.so\n")
    entries = [
        roots.file("opt/first.so", library, 0o755),
        roots.file("etc/first", b"/opt/first.so\n"),
        preload if by == "a file" else roots.link("etc/ld.so.preload", "first"),
    ]
    name = f"keeper/{new_id('img')}"
    async with dial(box) as channel:
        await roots.import_image(channel, name, roots.tar_of(*roots.root_entries(), *entries))
        session = await new_session(channel, image=name)
        mapped = (keeper_of(box) / "maps").read_text()
        assert "libpython" in mapped or "/python" in mapped
        assert "first.so" not in mapped
        # It is the image's own matter what its programs load.
        assert (await session.attempt("cat /etc/ld.so.preload")).stdout == "/opt/first.so\n"
        await session.delete()


async def test_an_image_with_something_in_the_keepers_place_is_refused_at_once(box: BoxProcess) -> None:
    name = f"keeper/{new_id('img')}"
    async with dial(box) as channel:
        await roots.import_image(channel, name, roots.tar_of(*roots.root_entries(), roots.link(".portway", "/tmp")))
        with pytest.raises(Unavailable, match="ended at once"):
            await new_session(channel, image=name)
        assert containers(box) == []


async def test_variables_of_an_image_are_not_the_keepers(box: BoxProcess) -> None:
    with client() as api:
        changes = ["ENV LD_PRELOAD=/usr/lib/first.so", "ENV GLIBC_TUNABLES=glibc.malloc.check=3", "ENV PYTHONPATH=/x"]
        made = api.create_container(docker_engine().image, ["true"])["Id"]
        api.commit(made, "portway-test", "variables", changes=changes)
        api.remove_container(made)
    async with dial(box) as channel:
        session = await new_session(channel, image="portway-test:variables")
        environment = (keeper_of(box) / "environ").read_bytes().split(b"\0")
        names = {entry.partition(b"=")[0] for entry in environment}
        assert names <= {b"PATH", b"HOSTNAME", b"HOME", b""}, environment
        assert (await session.sh("echo works")).stdout == "works\n"
        await session.delete()
