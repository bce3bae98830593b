"""A real PostgreSQL server for tests: its own data, port and socket. Where the tests are root, it is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from portway.rpc.serving import TlsConfig

USER, PASSWORD = "portway", "p@ss/w:rd%é"
"""Characters that a URL must carry percent-encoded."""

ENCODED = "p%40ss%2Fw%3Ard%25%C3%A9"
_NOBODY = 65534
_START_SECONDS = 120

T = TypeVar("T", bound=Callable[..., object])


@cache
def programs() -> Path | None:
    """The folder of `postgres` and `initdb`; Debian keeps it out of PATH."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


WITHOUT = "no PostgreSQL server is installed (apt-get install postgresql): everything on PostgreSQL is NOT tested here"


def needs_postgres(test: T) -> T:
    """Says loudly why a test does not run on a machine without the server."""
    marked: T = pytest.mark.skipif(programs() is None, reason=WITHOUT)(test)
    return marked


class PostgresServer:
    """One cluster in a temporary folder. `durable`: with fsync, for tests that crash it."""

    def __init__(self, *, durable: bool, tls: TlsConfig | None = None) -> None:
        folder = programs()
        assert folder is not None, WITHOUT
        self._programs = folder
        self._durable = durable
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        # Not in pytest's folder: that is closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="portway-postgres-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
            self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self._create()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _create(self) -> None:
        arguments = [str(self._programs / "initdb"), "-D", str(self.data), "-U", USER, "-E", "UTF8", "--locale=C.UTF-8"]
        arguments += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        made = subprocess.run(
            [*arguments, "--pwfile", str(secret)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            check=False,
            **self._as,  # type: ignore[call-overload]
        )
        assert made.returncode == 0, made.stderr + made.stdout
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": self.port,
            "unix_socket_directories": f"'{self.folder}'",
            "fsync": "on" if self._durable else "off",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "log_statement": "none",
            "log_min_messages": "warning",
        }
        if self._tls is not None:
            settings |= {"ssl": "on", "ssl_cert_file": f"'{self._own(self._tls.certificate)}'"}
            settings["ssl_key_file"] = f"'{self._own(self._tls.private_key)}'"
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _own(self, source: Path) -> Path:
        """A copy that is the server's own: it takes no key that others may read."""
        copy = self.data / source.name
        shutil.copy(source, copy)
        copy.chmod(0o600)
        if self._as:
            os.chown(copy, _NOBODY, _NOBODY)
        return copy

    def start(self) -> None:
        """Answers when it takes connections; after a crash, when it has recovered."""
        # What a killed postmaster left; nobody else has this folder.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        log = (self.folder / "server.log").open("ab")
        with log:
            # It ends with the tests, also where they are killed.
            command = ["setpriv", "--pdeathsig", "INT"]
            if self._as:
                command += ["--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"]
            self._process = subprocess.Popen(
                [*command, "--", str(self._programs / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < until, self.log()
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children notice and end. Answers when all are gone."""
        assert self._process is not None
        group = self._process.pid
        self._process.kill()
        self._process.wait()
        until = time.monotonic() + _START_SECONDS
        while _alive(group, self.data):
            assert time.monotonic() < until
            time.sleep(0.01)

    def signal_all(self, number: int) -> None:
        """To every process of the cluster, as SIGSTOP and SIGCONT."""
        assert self._process is not None
        for pid in list(_processes(self._process.pid, self.data)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """Fast shutdown, and nothing is left of it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """Over the socket, without a password."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, port: int = 0) -> str:
        """Over TCP, with the password."""
        return f"postgresql://{USER}:{ENCODED}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, encoding: str = "UTF8") -> str:
        """The name of an empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        return name

    def drop_database(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """As the administrator of the server."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-4000:]


def _alive(group: int, data: Path) -> bool:
    return any(_processes(group, data))


def _processes(group: int, data: Path) -> Iterator[int]:
    """Every process of the cluster. Workers of the server keep its session."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in ("Z", "X") and (int(fields[3]) == group or _works_in(entry, data)):
            yield int(entry.name)


def _works_in(entry: Path, data: Path) -> bool:
    try:
        return (entry / "cwd").resolve() == data.resolve() and (entry / "comm").read_text().startswith("postgres")
    except OSError:
        return False


def free_port() -> int:
    """One of 127.0.0.1 that a server may come back to."""
    # Below the range that the kernel gives to others, so that it is still free after a restart.
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port


@contextmanager
def postgres_server(*, durable: bool, tls: TlsConfig | None = None) -> Iterator[PostgresServer]:
    """A server that runs while the block does."""
    server = PostgresServer(durable=durable, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.stop()
