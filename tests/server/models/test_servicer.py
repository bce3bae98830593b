"""ModelService and ToolService over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.binding import Service
from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import serve
from portway.rpc.status import errors_by_meaning
from portway.rpc.tokens import FixedTokens, mint_token
from portway.server.effects.types import Idempotency
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.server.models.kept.directory import ModelDirectory
from portway.server.models.kept.manage import ModelManager
from portway.server.models.kept.store import StoredModels
from portway.server.models.servicer import ModelServicer
from portway.server.models.types import ModelKind
from portway.server.outbound.policy import OutboundPolicy
from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.keyring import load_keyring
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.servicer import ToolServicer
from portway.server.tools.types import Availability, ToolSpec, ToolType
from portway.v1 import binding_pb2, model_pb2, model_pb2_grpc, tool_pb2, tool_pb2_grpc
from tests.server.tools.test_registry import Source

OPERATOR, MEMBER = mint_token("operator"), mint_token("member")
KEY = "very-secret-key"

# These tests ask for no MCP server.
NO_MCP: Any = None


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    stack = AsyncExitStack()
    unreachable = ProviderConfig(
        ProviderKind.OPENAI,
        (ModelConfig("small", "vendor-small"), ModelConfig("vectors", kind=ModelKind.EMBEDDING)),
        base_url="http://127.0.0.1:9/v1",
        api_key=KEY,
    )
    registry = build_registry(ModelsConfig(default="small", providers={"main": unreachable}), Surroundings({}))
    tools = tuple(
        ToolSpec(name, ToolType.NATIVE, "", {"type": "object"}, Idempotency.READ_ONLY) for name in ("grep", "read")
    )
    cursors = CursorCodec(b"k" * 32)
    callers = [
        (OPERATOR.text, Caller(Role.OPERATOR, "default", "tok_1")),
        (MEMBER.text, Caller(Role.MEMBER, "default", "tok_2")),
    ]
    database = await stack.enter_async_context(open_database(DatabaseOptions(url=f"sqlite:///{tmp_path}/p.db")))
    keyring = load_keyring(tmp_path / "keys.json")
    directory = ModelDirectory(registry, StoredModels(database.reader, keyring), Surroundings({}))
    manager = ModelManager(database.writer, directory, keyring, OutboundPolicy())
    services = [
        Service(model_pb2.DESCRIPTOR.services_by_name["ModelService"], ModelServicer(directory, manager, cursors)),
        Service(
            tool_pb2.DESCRIPTOR.services_by_name["ToolService"],
            ToolServicer(
                ToolRegistry([Source("native", tools, Availability(False, "no box"))]), cursors, NO_MCP, NO_MCP, NO_MCP
            ),
        ),
    ]
    async with stack, serve(services, address="127.0.0.1:0", authenticator=FixedTokens(callers), grace=0.1) as server:
        yield server.address
    await registry.close()


@pytest.fixture
async def channel(address: str) -> AsyncIterator[PortwayChannel]:
    async with open_channel(address, token=OPERATOR.text) as opened:
        yield opened


async def test_models_are_listed_in_pages_with_everything_but_the_key(channel: PortwayChannel) -> None:
    stub = model_pb2_grpc.ModelServiceStub(channel)
    first = await stub.ListModels(model_pb2.ListModelsRequest(page_size=4))
    second = await stub.ListModels(model_pb2.ListModelsRequest(page_size=4, page_token=first.next_page_token))
    models = {model.model_id: model for model in (*first.models, *second.models)}
    assert list(models) == ["demo", "demo-20", "demo-embed", "demo-rerank", "demo-slow", "small", "vectors"]
    assert second.next_page_token == ""
    assert (models["small"].name, models["small"].is_default) == ("vendor-small", True)
    assert models["small"].managed_by == binding_pb2.MANAGED_BY_CONFIG
    assert models["demo"].managed_by == binding_pb2.MANAGED_BY_HOST
    assert models["vectors"].type == model_pb2.MODEL_TYPE_EMBEDDING
    of_demo = await stub.ListModels(model_pb2.ListModelsRequest(provider_id="demo"))
    assert len(of_demo.models) == 5


async def test_providers_are_shown_without_their_keys(channel: PortwayChannel) -> None:
    stub = model_pb2_grpc.ModelServiceStub(channel)
    listed = await stub.ListModelProviders(model_pb2.ListModelProvidersRequest())
    assert [one.provider_id for one in listed.model_providers] == ["demo", "main"]
    main = (await stub.GetModelProvider(model_pb2.GetModelProviderRequest(provider_id="main"))).model_provider
    assert (main.kind, main.base_url, main.has_api_key, main.api_key) == ("openai", "http://127.0.0.1:9/v1", True, "")
    assert KEY not in str(listed)


async def test_a_model_can_be_tried_and_a_failing_provider_is_an_answer(channel: PortwayChannel) -> None:
    stub = model_pb2_grpc.ModelServiceStub(channel)
    good = await stub.TestModel(model_pb2.TestModelRequest(model_id="demo"))
    assert good.ok
    assert "demo model" in good.text.lower()
    assert good.usage.output_tokens > 0
    bad = await stub.TestModel(model_pb2.TestModelRequest(model_id="small"))
    assert not bad.ok
    assert (bad.error.code, bad.error.retryable) == ("model.unavailable", True)


async def test_what_is_not_there_and_what_cannot_be_changed_is_said(channel: PortwayChannel) -> None:
    stub = model_pb2_grpc.ModelServiceStub(channel)
    with pytest.raises(NotFound, match="did you mean small"), errors_by_meaning():
        await stub.GetModel(model_pb2.GetModelRequest(model_id="smal"))
    with pytest.raises(NotFound), errors_by_meaning():
        await stub.GetModelProvider(model_pb2.GetModelProviderRequest(provider_id="nobody"))
    with pytest.raises(InvalidInput), errors_by_meaning():
        await stub.ListModels(model_pb2.ListModelsRequest(page_token="made up"))
    with pytest.raises(WrongState, match="only be changed there"), errors_by_meaning():
        await stub.DeleteModel(model_pb2.DeleteModelRequest(model_id="small"))


async def test_only_operators_and_viewers_see_models(address: str) -> None:
    async with open_channel(address, token=MEMBER.text) as channel:
        with pytest.raises(NotPermitted), errors_by_meaning():
            await model_pb2_grpc.ModelServiceStub(channel).TestModel(model_pb2.TestModelRequest(model_id="demo"))


async def test_tools_are_listed_with_the_reason_why_they_cannot_be_used(channel: PortwayChannel) -> None:
    stub = tool_pb2_grpc.ToolServiceStub(channel)
    first = await stub.ListTools(tool_pb2.ListToolsRequest(page_size=1, kind=tool_pb2.TOOL_KIND_NATIVE))
    request = tool_pb2.ListToolsRequest(page_size=1, kind=tool_pb2.TOOL_KIND_NATIVE, page_token=first.next_page_token)
    second = await stub.ListTools(request)
    assert [one.name for one in (*first.tools, *second.tools)] == ["grep", "read"]
    assert second.next_page_token == ""
    found = (await stub.GetTool(tool_pb2.GetToolRequest(name="read"))).tool
    assert (found.available, found.reason, found.source) == (False, "no box", "native")
    assert len((await stub.ListTools(tool_pb2.ListToolsRequest(kind=tool_pb2.TOOL_KIND_MCP))).tools) == 0
