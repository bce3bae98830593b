"""A named owner of background tasks: nothing runs that nobody waits for at the end."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

T = TypeVar("T")


class TaskOwner:
    """Starts tasks and keeps them until they are done. One that breaks is logged; who awaits it decides the rest."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            structlog.get_logger().debug("background work failed", owner=self._name, error=str(task.exception()))

    async def until_idle(self) -> None:
        """Waits until none of them runs, and cancels nothing when the wait is given up."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self, *, cancel: bool = True) -> None:
        """Waits until all are done, asking them to stop first."""
        tasks = list(self._tasks)
        for task in tasks:
            if cancel:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Does `work` whole, also where the waiting task is cancelled meanwhile: the cancelling comes after it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


@asynccontextmanager
async def in_background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on while the block runs. A piece of it that breaks ends the block, loudly."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in loops]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as broken:
        # Alone, it is told as what it is.
        if len(broken.exceptions) == 1:
            raise broken.exceptions[0] from None
        raise
