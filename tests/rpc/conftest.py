from collections.abc import Iterator

import pytest
import structlog

from tests.rpc.logs import Logs


@pytest.fixture
def logs() -> Iterator[Logs]:
    yield Logs()
    structlog.reset_defaults()
