"""A failure of the database itself, as against one of a unit of work."""

from portway.rpc.errors import PortwayError, Reason, Unavailable


class StorageFault(Exception):
    """The database itself failed, not the unit; nothing of the group was committed.

    `lasting` means that nothing more may be written. `again` means that the same work may succeed when it is run again
    at once: a deadlock, a connection that was lost before its commit.
    """

    def __init__(self, problem: PortwayError, lasting: bool, again: bool = False) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.lasting = lasting
        self.again = again


def unexpected(error: Exception) -> StorageFault:
    """Something that nobody foresaw went wrong between two units: nothing more is written."""
    problem = Unavailable(
        f"The database writer failed ({type(error).__name__}: {error}). Start the host again; what was acknowledged is "
        "on disk.",
        reason=Reason.UNAVAILABLE,
    )
    return StorageFault(problem, lasting=True)
