"""Images from registries: a real one, and one whose answers are written here for what no sound one does."""

import json
from typing import Any

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, PortwayError, Unavailable
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import image_pb2
from tests.asking import ask
from tests.box import roots
from tests.box.box_process import DOCKER, BoxProcess, box_process
from tests.box.inside import dial, new_session
from tests.contracts.images.scripted_registry import TOKEN, Said, ScriptedRegistry
from tests.contracts.images.test_images import in_engine
from tests.engines.registry import MACHINE, MANIFEST, PASSWORD, Registry, digest_of
from tests.waiting import until, until_told


def a_repository() -> str:
    return f"team/{new_id('img').replace('_', '-').lower()}"


async def pull(channel: PortwayChannel, reference: str, workspace_id: str = "") -> list[image_pb2.PullImageResponse]:
    """Every step."""
    with errors_by_meaning():
        request = image_pb2.PullImageRequest(reference=reference, workspace_id=workspace_id)
        return [step async for step in roots.images_of(channel).PullImage(request)]


def left_in(box: BoxProcess) -> list[str]:
    folder = box.data / ("images-docker" if box.mode == DOCKER else "images")
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


async def test_an_image_is_pulled_and_used(channel: PortwayChannel, source: Registry) -> None:
    repository = a_repository()
    over = roots.tar_of(roots.file("etc/issue", b"pulled\n"), roots.file("etc/.wh.hostname"))
    digest = source.push(repository, "1", roots.root_tar(), over, config={"Env": ["TOOL=x"]})
    reference = f"{source.host}/{repository}:1"
    steps = await pull(channel, reference)
    made = steps[-1].image
    assert (made.name, made.source) == (reference, f"{source.host}/{repository}@{digest}")
    sizes = [step.received_bytes for step in steps]
    assert sizes == sorted(sizes) and sizes[-1] == steps[-1].total_bytes > len(roots.root_tar())
    session = await new_session(channel, image=reference)
    assert (await session.sh("cat /etc/issue; echo $TOOL")).stdout == "pulled\nx\n"
    await session.delete()
    assert (await ask(channel, image_pb2.GetImageRequest(name=reference))).image == made
    # What is here stays what it is: the registry is not asked again.
    source.push(repository, "1", roots.root_tar())
    (again,) = await pull(channel, reference)
    assert again.image == made
    await ask(channel, image_pb2.RemoveImageRequest(name=reference))
    assert (await pull(channel, reference))[-1].image.digest != made.digest


async def test_of_several_machines_the_own_one_is_taken_and_a_digest_is_kept_to(
    channel: PortwayChannel, source: Registry
) -> None:
    repository = a_repository()
    digest = source.push_index(repository, "1", roots.root_tar())
    source.push(repository, "1", roots.tar_of(*roots.root_entries(), roots.file("etc/issue", b"newer\n")))
    made = (await pull(channel, f"{source.host}/{repository}@{digest}"))[-1].image
    assert made.source.endswith(f"@{digest}")
    newer = (await pull(channel, f"{source.host}/{repository}:1"))[-1].image
    assert made.digest != newer.digest
    wrong = f"{source.host}/{repository}@sha256:{'0' * 64}"
    with pytest.raises(NotFound, match="has no image"):
        await pull(channel, wrong)


async def test_a_validation_pulls_what_is_not_here(channel: PortwayChannel, source: Registry) -> None:
    repository = a_repository()
    source.push(repository, "1", roots.root_tar())
    reference = f"{source.host}/{repository}:1"
    states = await roots.validate(channel, reference)
    assert states[-1].stage == image_pb2.IMAGE_VALIDATION_STAGE_COMPLETED, states[-1]
    pulling = [state for state in states if state.stage == image_pb2.IMAGE_VALIDATION_STAGE_PULLING]
    assert pulling[-1].received_bytes == pulling[-1].total_bytes > 0
    states = await roots.validate(channel, f"{source.host}/{repository}:2")
    assert "while pulling" in states[-1].reason and "has no image" in states[-1].reason


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("{host}/team/not-there:1", NotFound),
        ("{host}/Team/x:1", InvalidInput),
        ("{host}/team/x:", InvalidInput),
        ("{host}/team/x@sha256:12", InvalidInput),
        ("{host}/team/../x", InvalidInput),
        ("{host}/", InvalidInput),
        ("debian:12", NotPermitted),
        ("registry.example.org/team/x:1", NotPermitted),
        ("{host}.example.org/team/x:1", PortwayError),
        ("127.0.0.1:1/team/x:1", Unavailable),
    ],
)
async def test_what_cannot_be_pulled_says_why(
    channel: PortwayChannel, source: Registry, box: BoxProcess, reference: str, error: type[PortwayError]
) -> None:
    with pytest.raises(error):
        await pull(channel, reference.format(host=source.host))
    assert left_in(box) == []


async def test_a_pull_belongs_to_its_workspace(channel: PortwayChannel, source: Registry, box: BoxProcess) -> None:
    repository = a_repository()
    source.push(repository, "1", roots.root_tar())
    reference = f"{source.host}/{repository}:1"
    async with dial(box, "foreign") as foreign:
        assert (await pull(foreign, reference))[-1].image.workspace_id == "elsewhere"
    with pytest.raises(NotFound):
        await ask(channel, image_pb2.GetImageRequest(name=reference, workspace_id="default"))
    async with dial(box, "member") as member:
        with pytest.raises(NotPermitted):
            await pull(member, reference)


async def test_credentials_are_told_to_their_registry_and_to_nobody_else(
    channel: PortwayChannel, closed_source: Registry, box: BoxProcess
) -> None:
    repository = a_repository()
    closed_source.push(repository, "1", roots.root_tar())
    await pull(channel, f"{closed_source.host}/{repository}:1")
    password = box.folder / "password"
    password.write_text("wrong-7391")
    try:
        with pytest.raises(NotPermitted, match="did not take the credentials") as refused:
            await pull(channel, f"{closed_source.host}/{repository}:2")
    finally:
        password.write_text(PASSWORD)
    assert "wrong-7391" not in refused.value.message
    assert "wrong-7391" not in box.log()


class Scripted:
    """A box that may pull from a scripted registry, which has one good image."""

    def __init__(self, registry: ScriptedRegistry, box: BoxProcess) -> None:
        self.registry, self.box = registry, box
        self.reference = f"{registry.host}/x:1"
        self.layer = roots.root_tar()
        config = {"os": "linux", "architecture": MACHINE, "rootfs": {"diff_ids": [digest_of(self.layer)]}}
        self.config = json.dumps(config).encode()
        self.tell({})

    def tell(self, changes: dict[str, Any]) -> None:
        """Writes the manifest, with changes to what it says of its layer."""
        layer = {"digest": digest_of(self.layer), "size": len(self.layer), **changes}
        first = {"digest": digest_of(self.config), "size": len(self.config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": first, "layers": [layer]}
        answers = self.registry.answers
        answers["/v2/x/manifests/1"] = Said(body=json.dumps(manifest).encode())
        answers[f"/v2/x/blobs/{digest_of(self.config)}"] = Said(body=self.config)
        answers[self.blob] = Said(body=self.layer)

    @property
    def blob(self) -> str:
        return f"/v2/x/blobs/{digest_of(self.layer)}"


@pytest.fixture
def told(scripted: ScriptedRegistry, box: BoxProcess) -> Scripted:
    """The settings are read at the start: each test has a port of its own, so the box starts anew."""
    box.stop()
    access = {"insecure": True, "username": "u", "password_file": str(box.folder / "password")}
    (box.folder / "password").write_text(PASSWORD)
    before: dict[str, Any] = box.settings["images"]
    before["allow"] = [*before["allow"], f"{scripted.host}/*"]
    before["registries"] = {**before["registries"], scripted.host: access}
    box.start()
    return Scripted(scripted, box)


async def nothing_came(told: Scripted, error: type[PortwayError], match: str) -> None:
    before = in_engine(told.box)
    async with dial(told.box) as channel:
        with pytest.raises(error, match=match):
            await pull(channel, told.reference)
        assert left_in(told.box) == []
        assert in_engine(told.box) == before
    await until(lambda: told.registry.connections == 0)


async def test_tokens_are_taken_and_redirects_get_none(told: Scripted, box: BoxProcess) -> None:
    registry = told.registry
    registry.wants_token = True
    registry.answers["/token"] = Said(body=json.dumps({"token": TOKEN.removeprefix("Bearer ")}).encode())
    registry.answers[told.blob] = Said(307, headers={"location": "/elsewhere"})
    registry.answers["/elsewhere"] = Said(body=told.layer)
    async with dial(box) as channel:
        await pull(channel, told.reference)
    by_path = {target.partition("?")[0]: authorization for target, authorization in registry.asked}
    assert by_path["/token"].startswith("Basic ") and by_path[told.blob] == TOKEN
    assert by_path["/elsewhere"] == ""
    assert any("scope=repository%3Ax%3Apull" in target for target, _ in registry.asked)
    assert TOKEN.removeprefix("Bearer ") not in box.log()


async def test_nothing_comes_of_a_registry_that_lies_leads_away_or_falls_silent(told: Scripted) -> None:
    registry, blob = told.registry, told.blob
    registry.answers[blob] = Said(body=told.layer[:-1] + b"x")
    await nothing_came(told, InvalidInput, "something else")
    registry.answers[blob] = Said(body=told.layer + b"more")
    await nothing_came(told, InvalidInput, "something else")
    registry.answers[blob] = Said(body=told.layer[:100], length=len(told.layer))
    await nothing_came(told, Unavailable, "registry")
    registry.answers[blob] = Said(307, headers={"location": "http://169.254.169.254/latest/meta-data"})
    await nothing_came(told, Unavailable, "not public")
    registry.answers[blob] = Said(307, headers={"location": "http://localhost:1/"})
    await nothing_came(told, Unavailable, "not public")
    registry.answers[blob] = Said(307, headers={"location": "file:///etc/passwd"})
    await nothing_came(told, InvalidInput, "without TLS")
    registry.answers[blob] = Said(307, headers={"location": blob})
    await nothing_came(told, Unavailable, "without an end")
    registry.answers[blob] = Said(503)
    await nothing_came(told, Unavailable, "503")
    registry.answers[blob] = Said(429)
    await nothing_came(told, LimitExceeded, "no more requests")
    told.tell({"size": 1 << 50})
    await nothing_came(told, LimitExceeded, "bytes")
    told.tell({"size": -1})
    await nothing_came(told, InvalidInput, "size")
    told.tell({"digest": "sha256:../../etc/passwd"})
    await nothing_came(told, InvalidInput, "digest")
    registry.answers["/v2/x/manifests/1"] = Said(body=b"[]")
    await nothing_came(told, InvalidInput, "no JSON object")
    registry.answers["/v2/x/manifests/1"] = Said(body=b" " * (5 << 20))
    await nothing_came(told, InvalidInput, "larger")
    registry.wants_token = True
    registry.answers["/token"] = Said(body=b"{}")
    await nothing_came(told, Unavailable, "gave none")


async def test_a_pull_that_is_given_up_or_stalls_leaves_nothing(told: Scripted, box: BoxProcess) -> None:
    told.registry.answers[told.blob] = Said(body=told.layer[:1_000_000], length=len(told.layer), stalls=True)
    async with dial(box) as channel:
        call = roots.images_of(channel).PullImage(image_pb2.PullImageRequest(reference=told.reference))
        await until(lambda: bool(left_in(box)) and told.registry.connections > 0)
        call.cancel()
        await until(lambda: not left_in(box) and told.registry.connections == 0)

        async def name_is_free() -> bool:
            """The last of it to go."""
            with pytest.raises(PortwayError) as refused:
                await pull(channel, told.reference)
            return "is being imported" not in refused.value.message

        await until_told(name_is_free)
    await nothing_came(told, PortwayError, "no data came")
    box.kill()
    box.start()
    assert left_in(box) == []
    told.registry.answers[told.blob] = Said(body=told.layer)
    async with dial(box) as channel:
        assert (await pull(channel, told.reference))[-1].image.size > 0


def test_a_pattern_that_names_no_registry_is_refused_at_the_start() -> None:
    with box_process("root", settings={"images": {"allow": ["*.example.org/*"]}}) as box:
        box.spawn()
        assert box.wait_ended() == 78
        assert "must name its registry" in box.log()
