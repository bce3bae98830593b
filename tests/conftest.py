"""What all tests share: a PostgreSQL server, started once per worker and only where a test asks for it."""

from collections.abc import Iterator

import pytest

from tests.postgres import WITHOUT, PostgresServer, postgres_server, programs

_LONG = ("faults", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole installations that are killed and come back take longest: first, so that no worker ends alone with them."""
    items.sort(key=lambda item: not any(folder in item.path.parts for folder in _LONG))


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
