"""What writer and reader need of a database: a transaction over one connection, used by one thread and re-used."""

from typing import Protocol

from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.transaction import Transaction


class HeldTransaction(Transaction, Protocol):
    """Begun, used and ended again and again by the thread that owns it."""

    fault: StorageFault | None
    """What made the transaction unusable, also where a unit swallowed it."""
    statements: int
    spoiled: bool
    """A statement failed and took the whole transaction with it: only undoing it helps."""

    @property
    def changes(self) -> int:
        """Rows changed so far; it only grows. Another value than before means that there is something to undo."""

    @property
    def beat_seconds(self) -> float | None:
        """How often an idle writer calls `beat`; None for never."""

    def begin(self, careful: bool = False) -> None:
        """Begin. `careful`: a statement that fails leaves the transaction usable, at the price of a savepoint each."""

    def commit(self) -> None:
        """On disk when this returns. Raises StorageFault when it is known that it is not."""

    def rollback(self) -> None:
        """Undo everything, where there is a transaction."""

    def savepoint(self) -> None: ...

    def release(self) -> None: ...

    def rollback_to_savepoint(self) -> None: ...

    def beat(self) -> None:
        """Show that the host lives."""

    def stop_waiting(self) -> None:
        """The host stops: do not wait for a server that is away. From any thread."""

    def close(self) -> None: ...
