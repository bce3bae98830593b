"""What all tests share: leaks are told where they happen; a PostgreSQL server, once per worker, where a test asks."""

import gc
import sys
from collections.abc import Generator, Iterator

import pytest

from tests.postgres import WITHOUT, PostgresServer, postgres_server, programs

_LONG = ("faults", "e2e")
_MODULES = pytest.StashKey[int]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole installations that are killed and come back take longest: first, so that no worker ends alone with them."""
    items.sort(key=lambda item: not any(folder in item.path.parts for folder in _LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """A test that leaves something open (a connection, a file, a loop) fails itself, not whichever runs later."""
    result = yield
    if told := _left_open(item.session.stash):
        pytest.fail(f"{item.name} left open what only the garbage collector found:\n" + "\n".join(told), pytrace=False)
    return result


def _left_open(known: pytest.Stash) -> list[str]:
    """What the garbage collector complains of. Modules stay, so it looks through them once: else 0.15 s, so 2 ms."""
    told: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda what: told.append(f"{what.exc_value!r} in {what.object!r}")
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
    if len(sys.modules) != known.get(_MODULES, 0):
        known[_MODULES] = len(sys.modules)
        gc.freeze()
    return told


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for tests that leave it running."""
    if programs() is None:
        pytest.skip(WITHOUT)
    with postgres_server(durable=False) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a new, empty database of it."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)
