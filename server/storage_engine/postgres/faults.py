"""What a failure of PostgreSQL means: of the statement, of the server, or of the way there."""

from psycopg import Error, InterfaceError, OperationalError

from portway.rpc.errors import LimitExceeded, PortwayError, Reason, Unavailable
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.transaction import StatementError

_RETRY_SECONDS = 1.0
_DISK_FULL = "53100"
READ_ONLY = "25006"
_NO_RIGHT = "42501"
# Serialization failure, deadlock, a lock that did not come.
_AGAIN = frozenset({"40001", "40P01", "55P03"})
# Connection exceptions; the server is going down, crashed, starting; a session that was ended for idling.
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
# What these say holds no values: constraints and statements are named, parameters are not.
_SPEAKABLE = ("23", "25", "42", "0A")


def is_gone(error: Error) -> bool:
    """The connection, or the server behind it, is not there any more."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return state.startswith("08") or state in _GONE


def lost(shown: str, detail: str) -> StorageFault:
    """No connection: what was not committed is run again when there is one."""
    problem = Unavailable(
        f"The database {shown} cannot be reached ({detail}). Portway tries again by itself; check the server and the "
        "network between.",
        reason=Reason.UNREACHABLE,
        retry_after=_RETRY_SECONDS,
    )
    return StorageFault(problem, lasting=False, again=True)


def fault_of(error: Error, shown: str) -> StorageFault | None:
    """The fault of the server or of the connection; None when the statement is to blame."""
    state = error.sqlstate or ""
    if is_gone(error):
        return lost(shown, brief(error))
    if state in _AGAIN:
        problem: PortwayError = Unavailable(
            "Another session of the database is in the way, again and again; nothing was written. Try again.",
            reason=Reason.UNAVAILABLE,
            retry_after=_RETRY_SECONDS,
        )
        return StorageFault(problem, lasting=False, again=True)
    if state == _DISK_FULL:
        problem = LimitExceeded(
            f"The disk of the database server {shown} is full; nothing was written. Free space there and try again.",
            reason=Reason.DISK_FULL,
            retry_after=5.0,
        )
        return StorageFault(problem, lasting=False)
    if state == READ_ONLY:
        return _unavailable(
            f"The database {shown} is read-only: a standby, or set so by its administrator. Nothing was written. Point "
            "Portway at the primary server."
        )
    if state == _NO_RIGHT:
        return _unavailable(
            f"The role of Portway lacks a right on the database {shown} ({brief(error)}). It must own Portway's tables."
        )
    if state.startswith(("53", "57")):
        return _unavailable(f"The database {shown} cannot serve now ({brief(error)}); nothing was written.")
    if state.startswith(("58", "XX", "F0")):
        problem = Unavailable(
            f"The database {shown} failed inside ({brief(error)}). Look at the server's log, then start the host "
            "again.",
            reason=Reason.UNAVAILABLE,
        )
        return StorageFault(problem, lasting=True)
    return None


def statement_error(error: Error, sql: str) -> StatementError:
    """Names the SQL, never the parameters: the server's own detail would."""
    return StatementError(f"{brief(error)}: {' '.join(sql.split())[:200]}")


def brief(error: Error) -> str:
    """In a line, without any value."""
    state = error.sqlstate
    if state is None:
        return " ".join(str(error).split())[:200]
    said = (error.diag.message_primary or "") if state.startswith(_SPEAKABLE) or is_gone(error) else ""
    return f"{type(error).__name__} {state}" + (f": {said[:200]}" if said else "")


def _unavailable(message: str) -> StorageFault:
    return StorageFault(Unavailable(message, reason=Reason.UNAVAILABLE, retry_after=_RETRY_SECONDS), lasting=False)
