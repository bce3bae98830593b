"""A connection that comes back: the server may restart, fail over, or be out of reach for a while."""

import threading
import time
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import ExecStatus

from portway.rpc.errors import PortwayError, Reason, Unavailable
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.postgres.faults import brief, fault_of, lost
from portway.server.storage_engine.postgres.target import Target
from portway.server.storage_engine.postgres.values import adapt
from portway.server.storage_engine.transaction import Row

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_PREPARED = 1_000
# At least on this server's disk when a commit returns; a stronger setting of the role (a standby too) stays.
_SETTINGS = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
SET idle_in_transaction_session_timeout = {idle_milliseconds};
SET statement_timeout = 0; SET timezone = 'UTC'; SET search_path = {search_path}
"""


class Link:
    """One connection, used by one thread. What it was in the middle of when it broke is the caller's to repeat.

    `patience`: seconds that work waits for a server that went away. `idle_seconds`: after which the server ends a
    session that idles inside a transaction, 0 for never: a host that was frozen must not hold its lease's row.
    """

    def __init__(self, target: Target, application: str, *, patience: float = 5.0, idle_seconds: float = 8.0) -> None:
        self.shown = target.shown
        self._conninfo = target.named(application)
        self._patience = patience
        self._idle_milliseconds = round(idle_seconds * 1000)
        self._connection: psycopg.Connection[Row] | None = None
        self._down_since = 0.0
        self._closing = threading.Event()

    @property
    def connection(self) -> psycopg.Connection[Row]:
        """The connection, made anew where it broke; waits for a server that is away.

        Raises StorageFault when the patience is at its end; from then on each call tries once.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        pause = _FIRST_PAUSE
        while True:
            try:
                self._connection = self._connect()
            except StorageFault as fault:
                moment = time.monotonic()
                self._down_since = self._down_since or moment
                if moment - self._down_since + pause > self._patience or self._closing.wait(pause):
                    raise StorageFault(fault.problem, lasting=False) from fault
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._down_since = 0.0
                return self._connection

    @property
    def connected(self) -> bool:
        """There is a connection; whether the server is still at its other end, only using it tells."""
        return self._connection is not None and not self._connection.closed

    def control(self, sql: str) -> Row:
        """Statements without parameters, as many as there are, in one round trip; answers the last one's first row."""
        connection = self.connection
        try:
            result = connection.pgconn.exec_(sql.encode())
        except psycopg.Error as error:
            raise self.failed(error) from error
        if result.status == ExecStatus.TUPLES_OK:
            return tuple(result.get_value(0, column) for column in range(result.nfields)) if result.ntuples else ()
        if result.status == ExecStatus.COMMAND_OK:
            return ()
        refusal = psycopg.errors.error_from_result(result)
        raise self.failed(psycopg.OperationalError(str(refusal)) if connection.closed else refusal)

    def failed(self, error: psycopg.Error) -> StorageFault:
        """The fault behind a failure outside of anybody's statement."""
        fault = fault_of(error, self.shown)
        if fault is None:
            problem = Unavailable(
                f"The database {self.shown} refused ({brief(error)}).", reason=Reason.UNAVAILABLE, retry_after=1.0
            )
            fault = StorageFault(problem, lasting=False)
        self.drop()
        return fault

    def connect_plainly(self) -> "psycopg.Connection[Any]":
        """One more connection, with the driver's own defaults, for a library that brings its own ways."""
        path = bytes(self.control("SELECT quote_ident(current_schema())")[0]).decode()
        connection: psycopg.Connection[Any] = psycopg.connect(self._conninfo)
        connection.execute(f"SET search_path = {path}".encode())
        connection.commit()
        return connection

    def drop(self) -> None:
        """Whatever was open on it is undone by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def stop_waiting(self) -> None:
        """The host stops: a server that is away is not waited for any more. From any thread."""
        self._closing.set()

    def close(self) -> None:
        self.stop_waiting()
        self.drop()

    def _connect(self) -> psycopg.Connection[Row]:
        try:
            connection: psycopg.Connection[Any] = psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=0, cursor_factory=RawCursor
            )
            connection.prepared_max = _PREPARED
            adapt(connection)
            (path,) = connection.execute("SELECT current_schemas(false)").fetchone() or ((),)
            if not path:
                raise StorageFault(_without_schema(self.shown), lasting=False)
            # One schema: a table of the same name in another one is never meant.
            search_path = psycopg.sql.Identifier(path[0]).as_string(connection)
            settings = _SETTINGS.format(idle_milliseconds=self._idle_milliseconds, search_path=search_path)
            result = connection.pgconn.exec_(settings.encode())
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                raise psycopg.errors.error_from_result(result)
        except psycopg.Error as error:
            raise fault_of(error, self.shown) or lost(self.shown, brief(error)) from error
        return connection


def _without_schema(shown: str) -> PortwayError:
    return Unavailable(
        f"The role of Portway has no schema of its own to use in the database {shown}. Create one: "
        "CREATE SCHEMA portway AUTHORIZATION the_role; ALTER ROLE the_role SET search_path = portway.",
        reason=Reason.NOT_CONFIGURED,
    )
