"""Sources of mounts are looked at aside: one that does not answer holds up nobody else."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.box.backends.types import HostMount, MountMode
from portway.box.sessions.judging import MountJudge
from portway.box.sessions.mounts import MountRules
from portway.box.sessions.profiles import Ceiling, ProfileBook
from portway.box.sessions.types import MountRequest, SessionRequest, SessionSpec
from portway.rpc.errors import InvalidInput, LimitExceeded, Unavailable
from tests.waiting import until


class HungRules(MountRules):
    """Over a file system that does not answer before it is let go."""

    def __init__(self, roots: list[Path]) -> None:
        super().__init__(roots, ())
        self.answers = threading.Event()
        self.asked = 0

    def mounts(self, spec: SessionSpec) -> tuple[HostMount, ...]:
        self.asked += 1
        self.answers.wait()
        return super().mounts(spec)


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[HungRules]:
    (tmp_path / "data").mkdir()
    rules = HungRules([tmp_path])
    yield rules
    rules.answers.set()


def spec_of(source: Path) -> SessionSpec:
    mount = MountRequest(str(source), "/data", MountMode.READ_ONLY)
    return ProfileBook({}, Ceiling()).resolve(SessionRequest(extra_mounts=(mount,)))


async def test_one_that_does_not_answer_is_given_up_and_told(hung: HungRules, tmp_path: Path) -> None:
    judge = MountJudge(hung, seconds=0.05)
    with pytest.raises(Unavailable, match="does not answer"):
        await judge.judged(spec_of(tmp_path / "data"))


async def test_so_many_wait_and_all_are_told_when_it_answers(hung: HungRules, tmp_path: Path) -> None:
    judge = MountJudge(hung)
    waiting = [asyncio.ensure_future(judge.judged(spec_of(tmp_path / "data"))) for _ in range(16)]
    await until(lambda: hung.asked == 16)
    with pytest.raises(LimitExceeded):
        await judge.judged(spec_of(tmp_path / "data"))
    hung.answers.set()
    found = await asyncio.gather(*waiting)
    assert {one.mounts[0].source for one in found} == {str(tmp_path / "data")}
    # Their places are free again.
    with pytest.raises(InvalidInput):
        await judge.judged(spec_of(Path("/etc")))
