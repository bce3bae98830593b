"""Files to a program and back: bounded, listed with the reason where they are left out, and never a failure."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from portway.runtime.harness import attached, made
from portway.runtime.harness.attached import place_files
from portway.runtime.harness.file_names import safe_name
from portway.runtime.harness.made import handed_back
from portway.runtime.harness.places import FileRefused, Folders
from portway.runtime.sdk import AgentRunner, ArtifactRef, HostApi, MessageCompleted, RunContext, RunInput, RunResult
from portway.runtime.sdk.testing.drive import Outcome, run_runner
from portway.runtime.sdk.testing.things import Things

ALL = ["artifacts.metadata", "artifacts.read", "artifacts.write"]


@dataclass(frozen=True, slots=True)
class Made:
    """A file of so many bytes, of which none is there before it is read."""

    name: str
    size: int
    piece: int = 1024 * 1024

    async def read(self) -> AsyncIterator[bytes]:
        left = self.size
        while left > 0:
            yield bytes(min(left, self.piece))
            left -= self.piece


@dataclass(slots=True)
class Memory:
    """A place that holds what it is given; `full` is a file that it does not take."""

    folders: Folders = field(default_factory=lambda: Folders("/w/run", "/w/home", "/w"))
    made: Sequence[Made] = ()
    full: str = ""
    files: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def receive(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        if self.full and path.endswith(self.full):
            raise FileRefused("no space left")
        self.files[path] = sum([len(piece) async for piece in pieces])

    @asynccontextmanager
    async def made_files(self, folder: str, since: str, most: int) -> AsyncIterator[Sequence[Made]]:
        self.asked.append((folder, since))
        yield list(self.made)[:most]


class Handling(AgentRunner):
    """Takes the files of the message, and hands back those of its place."""

    def __init__(self, place: Any, outbox: str = "/w/run/outbox") -> None:
        self.place, self.outbox = place, outbox

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        placed = await place_files(ctx, host, self.place)
        async for result in handed_back(host, ctx, self.place, self.outbox):
            yield result
        yield MessageCompleted.of_text("\n".join(f"{one.artifact.name}: {one.path or one.left_out}" for one in placed))


async def handled(place: Memory, *files: tuple[str, int], permissions: Sequence[str] = ALL, **more: Any) -> Outcome:
    refs = tuple(ArtifactRef(f"art_{index}", "", name, size) for index, (name, size) in enumerate(files))
    known = {ref.artifact_id: (ref, bytes(min(ref.size, 1000))) for ref in refs if ref.name != "gone.txt"}
    ctx = RunContext(run_id="run_1", input=RunInput("look", attachments=refs))
    things = Things(artifacts=dict(known))
    return await run_runner(lambda: Handling(place, **more), things=things, permissions=permissions, context=ctx)


async def test_what_is_too_large_too_many_or_gone_is_listed_with_the_reason() -> None:
    place = Memory(full="full.txt")
    many = [(f"{number}.txt", 10) for number in range(attached.MAX_FILES)]
    outcome = await handled(
        place, ("large.bin", attached.MAX_FILE + 1), ("gone.txt", 5), ("full.txt", 5), *many, ("z", 1)
    )
    told = dict(line.split(": ", 1) for line in outcome.messages[0].splitlines())
    assert "larger than 64 MiB" in told["large.bin"] and "no space left" in told["full.txt"]
    assert "gone" not in [path.rpartition("/")[2] for path in place.files] and "art_1" in told["gone.txt"]
    assert told["0.txt"] == "/w/run/files/0.txt" and told["19.txt"] == "/w/run/files/19.txt"
    assert told["z"] == f"a message has at most {attached.MAX_FILES} files here"
    assert len(place.files) == attached.MAX_FILES


async def test_files_have_a_bound_together() -> None:
    half = attached.MAX_TOTAL // 2
    outcome = await handled(Memory(), ("a", half), ("b", half), ("c", 1))
    assert outcome.messages[0].splitlines()[2] == "c: the files have more than 128 MiB together"


async def test_a_run_that_may_not_read_files_has_none() -> None:
    place = Memory()
    outcome = await handled(place, ("a", 1), permissions=["artifacts.write"])
    assert outcome.messages == ["a: the run may not read files"] and not place.files


async def test_what_is_handed_back_is_bounded_and_what_is_left_out_is_said() -> None:
    place = Memory(made=[Made("big.bin", made.MAX_FILE + 1), *(Made(f"{number}.txt", 3) for number in range(30))])
    outcome = await handled(place)
    assert outcome.kinds.count("artifact_created") == made.MAX_FILES - 1
    said = [one.progress.text for one in outcome.results if one.HasField("progress")]
    assert len(said) == 2 and "big.bin was left out" in said[0] and "at most 20" in said[1]
    assert place.asked == [("/w/run/outbox", "")]


async def test_a_folder_that_stays_gives_what_is_newer_than_the_run_and_without_the_right_nothing() -> None:
    place = Memory(made=[Made("a.txt", 3)])
    await handled(place, outbox="/w/shared")
    assert place.asked == [("/w/shared", "/w/run/agent-context.json")]
    refused = await handled(Memory(made=[Made("a.txt", 3)]), permissions=[])
    assert "artifact_created" not in refused.kinds


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        ("C:\\temp\\a.txt", "a.txt"),
        (".hidden", "hidden"),
        ("--flag", "flag"),
        ("a\nb\0c.txt", "a_b_c.txt"),
        ("a" * 300 + ".txt", "a" * 116 + ".txt"),
        ("\N{HIRAGANA LETTER A}" * 100 + ".png", "\N{HIRAGANA LETTER A}" * 38 + ".png"),
        ("name.with-a-very-long-extension", "name.with-a-very-long-extension"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe", "a_gnp.exe"),
    ],
)
def test_names_of_others_become_plain_ones(name: str, safe: str) -> None:
    assert safe_name(name, set()) == safe
    assert len(safe.encode()) <= 120


def test_names_are_told_apart_also_where_case_does_not_count() -> None:
    taken: set[str] = set()
    given = [safe_name(name, taken) for name in ("A.txt", "a.TXT", "a.txt", "a-2.txt")]
    assert given == ["A.txt", "a-2.TXT", "a-3.txt", "a-2-2.txt"]
