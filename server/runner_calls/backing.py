"""A run as what stands behind a component that works for it."""

from dataclasses import dataclass

from portway.server.runner_calls.paying import pay_bytes
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.storage_engine.transaction import Transaction


@dataclass(frozen=True, slots=True)
class RunBacking:
    """What a tool keeps is kept and paid like what its run keeps."""

    run: RunScope

    def check_alive(self) -> None:
        self.run.check_alive()

    def guard(self, tx: Transaction) -> None:
        check_fence(tx, self.run.fence)

    async def pay(self, size: int) -> None:
        await pay_bytes(self.run, size)
