"""A whole host with a fake runtime, for tests of what is set up and looked at over the wire."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.v1 import runner_pb2
from tests.fakes.runtime_server import FakeRuntime, a_manifest, serve_fake_runtime
from tests.server.hosting import Hosted, hosted

_TYPES = runner_pb2.ConfigFieldType
FIELDS = (
    runner_pb2.ConfigField(name="prompt", type=_TYPES.CONFIG_FIELD_TYPE_PROMPT_EDITOR),
    runner_pb2.ConfigField(name="api_key", type=_TYPES.CONFIG_FIELD_TYPE_SECRET),
    runner_pb2.ConfigField(name="rounds", type=_TYPES.CONFIG_FIELD_TYPE_NUMBER),
    runner_pb2.ConfigField(name="model", type=_TYPES.CONFIG_FIELD_TYPE_MODEL_FALLBACK_SELECTOR),
    runner_pb2.ConfigField(
        name="mood", type=_TYPES.CONFIG_FIELD_TYPE_SELECT, options=[runner_pb2.ConfigOption(value="calm")]
    ),
)


@pytest.fixture
async def schema_runtime() -> AsyncIterator[FakeRuntime]:
    """A runtime whose runner has a configuration."""
    async with serve_fake_runtime(FakeRuntime(manifest=a_manifest(config_schema=FIELDS))) as serving:
        yield serving


@pytest.fixture
async def served(tmp_path: Path, schema_runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    """A host whose agent is one of that runner."""
    async with hosted(tmp_path, schema_runtime) as serving:
        await serving.set_agent()
        yield serving
