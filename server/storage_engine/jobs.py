"""A piece of work handed from the event loop to a thread, and its answer handed back."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

A = TypeVar("A")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Job(Generic[A, T]):
    """`work` is called by a thread with what that thread owns; `future` belongs to the loop."""

    work: Callable[[A], T]
    future: "asyncio.Future[T]"
    result: T | None = None
    error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(cast(T, self.result))


def resolve_all(jobs: list[Job[Any, Any]]) -> None:
    """Runs in the loop: one wake-up answers everybody."""
    for job in jobs:
        job.resolve()
