"""A program is read within its time and its bounds, whatever pieces its output comes in."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from portway.runtime.harness.program import MAX_LINE, Listener
from portway.runtime.sdk import BoxEnding, BoxExit, BoxOutput, RunFailure


class Said:
    """A program that has said these pieces, and ends where `ends` is set."""

    def __init__(self, pieces: Sequence[bytes], ends: bool = True) -> None:
        self._pieces, self._ends = pieces, ends
        self.go_on = asyncio.Event()

    async def output(self) -> AsyncIterator[BoxOutput | BoxExit]:
        for piece in self._pieces:
            yield BoxOutput(piece)
        if not self._ends:
            await self.go_on.wait()
        yield BoxExit(BoxEnding.COMPLETED, 0)

    async def write(self, data: bytes) -> None:
        """Takes anything."""

    async def close_input(self) -> None:
        """Has none."""


async def lines(*pieces: bytes) -> list[bytes]:
    return [line async for line in Listener("program", Said(pieces), 30.0).lines()]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    text = b"one\n\ntwo\r\n  \nthree three\n\nlast without an end"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert await lines(*pieces) == [b"one", b"two\r", b"three three", b"last without an end"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
async def test_a_line_has_a_bound(end: bytes) -> None:
    whole = b"x" * MAX_LINE
    assert (await lines(whole + end))[0] == whole
    with pytest.raises(RunFailure) as refused:
        await lines(whole, b"x" + end)
    assert refused.value.error.code == "harness.bad_output" and "4 MiB" in refused.value.error.message


async def test_time_that_a_person_takes_does_not_count() -> None:
    program = Said([b"begun\n"], ends=False)
    listener = Listener("program", program, 0.2)
    found: list[bytes] = []

    async def listen() -> None:
        async for line in listener.lines():
            found.append(line)

    with listener.standing_still():
        listening = asyncio.ensure_future(listen())
        # Twice as long as it has, and once more by a second person meanwhile.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                with listener.standing_still():
                    await asyncio.shield(listening)
        assert not listening.done()
    # Now it counts again, and what was left of it is all that it has.
    with pytest.raises(RunFailure) as late:
        await listening
    assert late.value.error.code == "harness.timeout" and found == [b"begun"]


async def test_a_program_that_ends_while_somebody_thinks_has_ended() -> None:
    program = Said([b"begun\n"], ends=False)
    listener = Listener("program", program, 0.1)
    with listener.standing_still():
        program.go_on.set()
        assert [line async for line in listener.lines()] == [b"begun"]
    assert listener.exit == BoxExit(BoxEnding.COMPLETED, 0)
