"""Which backend a box uses, with backends that only say whether they work."""

import pytest

from portway.box.backends.choice import BackendChoice
from portway.box.backends.interface import Sandbox
from portway.box.backends.types import BackendReport, HeldThing, SandboxSpec
from portway.box.isolation.limits import Limits
from portway.rpc.errors import NotFound, Unavailable


class SaysSo:
    """A backend that works or not, as it is told, and counts what it is asked."""

    def __init__(self, name: str, *, works: bool) -> None:
        self.name = name
        self.works = works
        self.asked: list[str] = []

    @property
    def images(self) -> None:
        return None

    async def probe(self) -> BackendReport:
        self.asked.append("probe")
        return BackendReport(self.name, self.works, f"{self.name} {'works' if self.works else 'is broken'}")

    async def create(self, spec: SandboxSpec) -> Sandbox:
        raise Unavailable(f"made by {self.name}")

    async def discard(self, key: str) -> None:
        self.asked.append(f"discard {key}")

    async def held(self, key: str) -> tuple[HeldThing, ...]:
        return (HeldThing("workspace", key, "the same folder", 1.0),)

    async def cleanup(self, keep: frozenset[str]) -> int:
        return 1

    async def close(self) -> None:
        self.asked.append("close")


def made(wanted: str = "auto", **works: bool) -> tuple[BackendChoice, dict[str, SaysSo]]:
    backends = {name: SaysSo(name, works=one) for name, one in works.items()}
    return BackendChoice(backends, wanted), backends


async def maker_of(choice: BackendChoice) -> str:
    with pytest.raises(Unavailable) as refused:
        await choice.create(SandboxSpec("key", Limits()))
    return refused.value.message


async def test_the_first_that_works_is_taken_in_the_order_of_the_list() -> None:
    choice, _backends = made(podman=True, docker=True, namespace=False)
    report = await choice.probe()
    assert (report.name, report.available, choice.name) == ("docker", True, "docker")
    assert await maker_of(choice) == "made by docker"


async def test_one_that_is_named_is_not_replaced_by_another() -> None:
    choice, backends = made("docker", docker=False, namespace=True)
    report = await choice.probe()
    assert (report.name, report.available, report.reason) == ("docker", False, "docker is broken")
    assert backends["namespace"].asked == []
    with pytest.raises(NotFound):
        made("docker", namespace=True)


async def test_the_choice_is_made_again_when_the_chosen_one_fails() -> None:
    choice, backends = made(namespace=True, docker=True)
    await choice.probe()
    backends["namespace"].works = False
    assert (await choice.probe()).name == "docker"
    backends["namespace"].works = True
    assert (await choice.probe()).name == "namespace"


async def test_where_none_works_the_reasons_of_all_are_told() -> None:
    choice, _backends = made(namespace=False, docker=False)
    report = await choice.probe()
    assert (report.name, report.available) == ("namespace", False)
    assert "namespace is broken" in report.reason and "docker: docker is broken" in report.reason


async def test_the_others_are_tried_and_let_go_and_not_at_every_question() -> None:
    choice, backends = made(namespace=True, docker=True, podman=False)
    await choice.probe()
    assert [(one.name, one.available) for one in await choice.others()] == [("docker", True), ("podman", False)]
    await choice.others()
    assert backends["docker"].asked == ["probe", "close"]


async def test_what_an_earlier_life_left_is_cleaned_up_in_all_of_them() -> None:
    choice, backends = made(namespace=True, docker=True)
    assert await choice.cleanup(frozenset()) == 2
    await choice.discard("key")
    assert all(backend.asked == ["discard key"] for backend in backends.values())
    named, backends = made("docker", namespace=True, docker=True)
    await named.cleanup(frozenset())
    assert (backends["namespace"].asked, backends["docker"].asked) == (["close"], [])
    assert len(await choice.held("key")) == 1
