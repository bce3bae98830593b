"""Providers and models that are set up through the API, asked for real while the host runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, NotPermitted, Reason, Stale, WrongState
from portway.server.agents.types import ResourcePolicy
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.server.outbound.policy import OutboundPolicy
from portway.v1 import audit_pb2, binding_pb2, content_pb2, model_pb2, run_model_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.model_api import Answer, FakeModelApi, Hold, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, openai_frames
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, hosted, text_part
from tests.server.playing import played
from tests.waiting import until_told

KEY = "first-key-0123456789"
INSIDE = OutboundPolicy(private_hosts=("127.0.0.1",))


@pytest.fixture
async def api() -> AsyncIterator[FakeModelApi]:
    async with serve_fake_model_api(KEY) as serving:
        yield serving


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    configured = ProviderConfig(ProviderKind.OPENAI, (ModelConfig("fixed"),), base_url="http://127.0.0.1:9/v1")
    models = ModelsConfig(providers={"file": configured})
    async with hosted(tmp_path, runtime, models=models, outbound=INSIDE) as serving:
        await serving.set_agent()
        yield serving


def a_provider(api: FakeModelApi, **more: object) -> model_pb2.ModelProvider:
    wanted = {"provider_id": "main", "kind": "openai", "base_url": f"{api.base_url}/v1", "api_key": KEY, **more}
    return model_pb2.ModelProvider(**wanted)  # type: ignore[arg-type]


async def make(host: Hosted, api: FakeModelApi, **model: object) -> model_pb2.Model:
    await ask(host.channel, model_pb2.CreateModelProviderRequest(model_provider=a_provider(api)))
    wanted = model_pb2.Model(**{"model_id": "small", "provider_id": "main", "name": "vendor-small", **model})  # type: ignore[arg-type]
    made: model_pb2.Model = (await ask(host.channel, model_pb2.CreateModelRequest(model=wanted))).model
    return made


def says(api: FakeModelApi, text: str) -> None:
    api.will(Answer(tuple(openai_frames(WireAnswer((text,))))))


async def tried(host: Hosted, model_id: str = "small") -> model_pb2.TestModelResponse:
    answer: model_pb2.TestModelResponse = await ask(host.channel, model_pb2.TestModelRequest(model_id=model_id))
    return answer


async def test_a_model_is_made_used_changed_and_removed_without_a_restart(host: Hosted, api: FakeModelApi) -> None:
    made = await make(host, api, context_window=1000, tool_calling=True)
    assert (made.revision, made.managed_by, made.context_window) == (1, binding_pb2.MANAGED_BY_API, 1000)
    says(api, "hello")
    answer = await tried(host)
    assert (answer.ok, answer.text) == (True, "hello")
    made.name = "vendor-large"
    changed = (await ask(host.channel, model_pb2.UpdateModelRequest(model=made))).model
    assert changed.revision == 2
    with pytest.raises(Stale):
        await ask(host.channel, model_pb2.UpdateModelRequest(model=made))
    says(api, "hello again")
    await tried(host)
    assert [one.body["model"] for one in api.requests] == ["vendor-small", "vendor-large"]
    with pytest.raises(WrongState, match="small") as used:
        await ask(host.channel, model_pb2.DeleteModelProviderRequest(provider_id="main"))
    assert used.value.reason == Reason.IN_USE
    await ask(host.channel, model_pb2.DeleteModelRequest(model_id="small"))
    await ask(host.channel, model_pb2.DeleteModelProviderRequest(provider_id="main"))
    with pytest.raises(NotFound):
        await ask(host.channel, model_pb2.GetModelProviderRequest(provider_id="main"))
    # Rows of trials are queued, so where they stand among the others is open; those of changes are in order.

    async def written() -> list[str]:
        audit = await ask(host.channel, audit_pb2.ListAuditEntriesRequest())
        return [one.action for one in audit.audit_entries if one.action.startswith("model")]

    async def both_trials() -> bool:
        return (await written()).count("model.test") == 2

    await until_told(both_trials)
    assert [action for action in await written() if action != "model.test"] == [
        "model_provider.delete",
        "model.delete",
        "model.update",
        "model.create",
        "model_provider.create",
    ]


async def test_a_key_is_kept_encrypted_never_shown_and_rotated(
    host: Hosted, api: FakeModelApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await make(host, api)
    shown = (await ask(host.channel, model_pb2.GetModelProviderRequest(provider_id="main"))).model_provider
    assert (shown.has_api_key, shown.api_key) == (True, "")
    # An empty key keeps the old one; so does whoever sends back what was read.
    shown.max_concurrency = 3
    kept = (await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=shown))).model_provider
    assert (kept.has_api_key, kept.max_concurrency, kept.revision) == (True, 3, 2)
    says(api, "with the kept key")
    assert (await tried(host)).ok
    kept.api_key = api.api_key = "second-key-0123456789"
    await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=kept))
    says(api, "with the new key")
    assert (await tried(host)).ok
    gone = model_pb2.UpdateModelProviderRequest(model_provider=a_provider(api, api_key=""), remove_api_key=True)
    assert not (await ask(host.channel, gone)).model_provider.has_api_key
    assert (await tried(host)).error.code == "model.auth"
    with sqlite3.connect(tmp_path / "host" / "portway.db") as file:
        dump = "\n".join(file.iterdump())
    logged = capsys.readouterr()
    for key in (KEY, "second-key"):
        assert key not in dump
        assert key not in logged.out + logged.err


async def test_a_kept_key_does_not_follow_to_another_place(host: Hosted, api: FakeModelApi) -> None:
    await make(host, api)
    moved = a_provider(api, base_url="http://127.0.0.1:1/v1", api_key="")
    with pytest.raises(InvalidInput, match="needed again"):
        await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=moved))
    same_place = a_provider(api, base_url=f"{api.base_url}/v1/", api_key="")
    await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=same_place))


async def test_what_was_set_up_is_there_after_a_restart(
    tmp_path: Path, runtime: FakeRuntime, api: FakeModelApi
) -> None:
    async with hosted(tmp_path, runtime, outbound=INSIDE) as host:
        await make(host, api, is_default=True)
    async with hosted(tmp_path, runtime, outbound=INSIDE) as host:
        found = (await ask(host.channel, model_pb2.GetModelRequest(model_id="small"))).model
        assert found.is_default
        says(api, "still here")
        assert (await tried(host)).text == "still here"


async def test_another_workspace_neither_sees_nor_uses_it(host: Hosted, api: FakeModelApi) -> None:
    await make(host, api)
    workspace = workspace_pb2.Workspace(workspace_id="other", name="Other")
    await ask(host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    async with calling_as(host, "operator", "other") as other:
        page = await ask(other, model_pb2.ListModelsRequest())
        assert "small" not in {one.model_id for one in page.models}
        for request in (
            model_pb2.GetModelRequest(model_id="small"),
            model_pb2.TestModelRequest(model_id="small"),
            model_pb2.DeleteModelRequest(model_id="small"),
            model_pb2.GetModelProviderRequest(provider_id="main"),
            model_pb2.DeleteModelProviderRequest(provider_id="main"),
            model_pb2.CreateModelRequest(model=model_pb2.Model(model_id="mine", provider_id="main")),
            model_pb2.UpdateModelProviderRequest(model_provider=a_provider(api)),
        ):
            with pytest.raises(NotFound):
                await ask(other, request)
        # The same ids are free there.
        await ask(other, model_pb2.CreateModelProviderRequest(model_provider=a_provider(api)))
    async with calling_as(host, "viewer") as viewer:
        with pytest.raises(NotPermitted):
            await ask(viewer, model_pb2.DeleteModelRequest(model_id="small"))


async def test_clashes_and_what_the_file_keeps_are_refused(host: Hosted, api: FakeModelApi) -> None:
    await make(host, api)
    for provider_id in ("main", "file", "demo"):
        with pytest.raises(Conflict, match=provider_id):
            wanted = a_provider(api, provider_id=provider_id)
            await ask(host.channel, model_pb2.CreateModelProviderRequest(model_provider=wanted))
    for model_id, owner in (("small", "main"), ("fixed", "file"), ("demo", "demo")):
        wanted_model = model_pb2.Model(model_id=model_id, provider_id="main")
        with pytest.raises(Conflict, match=f"'{model_id}'.*'{owner}'"):
            await ask(host.channel, model_pb2.CreateModelRequest(model=wanted_model))
    for request in (
        model_pb2.UpdateModelProviderRequest(model_provider=a_provider(api, provider_id="file")),
        model_pb2.DeleteModelProviderRequest(provider_id="file"),
        model_pb2.UpdateModelRequest(model=model_pb2.Model(model_id="fixed", provider_id="file")),
        model_pb2.DeleteModelRequest(model_id="demo"),
        model_pb2.CreateModelRequest(model=model_pb2.Model(model_id="more", provider_id="file")),
    ):
        with pytest.raises(WrongState) as refused:
            await ask(host.channel, request)
        assert refused.value.reason == Reason.MANAGED_BY_CONFIG


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"kind": "nonsense"}, "model_provider.kind"),
        ({"provider_id": "a b"}, "model_provider.provider_id"),
        ({"base_url": "ftp://x"}, "model_provider.base_url"),
        ({"base_url": "https://me:pw@x/"}, "model_provider.base_url"),
        ({"base_url": "http://169.254.169.254/v1"}, "model_provider.base_url"),
        ({"base_url": "http://10.0.0.1/v1"}, "model_provider.base_url"),
        ({"base_url": "", "api_key": ""}, "model_provider.api_key"),
        ({"api_key": "two words"}, "model_provider.api_key"),
        ({"api_key": "line\r\nbreak"}, "model_provider.api_key"),
    ],
)
async def test_wrong_providers_are_refused(
    host: Hosted, api: FakeModelApi, wrong: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        request = model_pb2.CreateModelProviderRequest(model_provider=a_provider(api, **wrong))
        await ask(host.channel, request)
    assert field in [one.field for one in refused.value.fields]
    assert "pw" not in refused.value.message


async def test_the_same_request_twice_makes_one(host: Hosted, api: FakeModelApi) -> None:
    request = model_pb2.CreateModelProviderRequest(model_provider=a_provider(api, provider_id=""), request_id="r1")
    first, second = await ask(host.channel, request), await ask(host.channel, request)
    assert first == second
    assert first.model_provider.provider_id.startswith("mpv_")
    model = model_pb2.Model(model_id="m", provider_id=first.model_provider.provider_id)
    again = model_pb2.CreateModelRequest(model=model, request_id="r2")
    assert await ask(host.channel, again) == await ask(host.channel, again)


async def test_switched_off_models_are_not_used_and_say_so(host: Hosted, api: FakeModelApi) -> None:
    made = await make(host, api)
    made.disabled = True
    await ask(host.channel, model_pb2.UpdateModelRequest(model=made))
    with pytest.raises(WrongState, match="switched off"):
        await tried(host)
    made.disabled, made.revision = False, 0
    await ask(host.channel, model_pb2.UpdateModelRequest(model=made))
    off = a_provider(api, disabled=True, api_key="")
    await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=off))
    with pytest.raises(WrongState, match="switched off"):
        await tried(host)


async def test_a_model_that_an_agent_names_and_the_default_are_not_removed(host: Hosted, api: FakeModelApi) -> None:
    made = await make(host, api)
    await host.set_agent(resource_policy=ResourcePolicy(model_ids=("small",)))
    with pytest.raises(WrongState, match="assistant") as used:
        await ask(host.channel, model_pb2.DeleteModelRequest(model_id="small"))
    assert used.value.reason == Reason.IN_USE
    await host.set_agent()
    made.is_default = True
    await ask(host.channel, model_pb2.UpdateModelRequest(model=made))
    with pytest.raises(WrongState, match="default"):
        await ask(host.channel, model_pb2.DeleteModelRequest(model_id="small"))


async def test_prices_are_set_listed_and_put_into_what_a_call_used(host: Hosted, api: FakeModelApi) -> None:
    await make(host, api)
    says(api, "unpriced")
    assert not (await tried(host)).usage.HasField("cost_micros")
    before = await ask(host.channel, model_pb2.ListPricesRequest())
    assert (before.revision, list(before.prices)) == (0, [])
    price = model_pb2.ModelPrice(model_id="small", input_micros=1_000_000, output_micros=2_000_000)
    made = await ask(host.channel, model_pb2.SetPricesRequest(prices=[price], revision=before.revision))
    listed = await ask(host.channel, model_pb2.ListPricesRequest())
    assert (listed.version, listed.revision) == (made.version, 1)
    assert (listed.prices[0].currency, listed.prices[0].managed_by) == ("USD", binding_pb2.MANAGED_BY_API)
    says(api, "priced")
    usage = (await tried(host)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cost_micros) == (11, 7, 11 + 14)
    assert (usage.currency, usage.price_version) == ("USD", made.version)
    with pytest.raises(InvalidInput):
        wrong = model_pb2.ModelPrice(model_id="nobody", input_micros=1)
        await ask(host.channel, model_pb2.SetPricesRequest(prices=[wrong]))
    with pytest.raises(InvalidInput, match="one price"):
        await ask(host.channel, model_pb2.SetPricesRequest(prices=[price, price]))
    await ask(host.channel, model_pb2.SetPricesRequest(prices=[], revision=1))
    with pytest.raises(Stale):
        await ask(host.channel, model_pb2.SetPricesRequest(prices=[price], revision=1))


async def test_a_call_under_way_keeps_its_provider_while_the_next_one_has_the_new_key(
    host: Hosted, runtime: FakeRuntime, api: FakeModelApi
) -> None:
    await make(host, api)
    await host.set_agent(resource_policy=ResourcePolicy(model_ids=("small",)))
    go = asyncio.Event()
    frames = openai_frames(WireAnswer(("slow", " answer")))
    api.will(Answer((*frames[:2], Hold(go), *frames[2:])))

    async def script(run: FakeRun) -> None:
        question = run_model_pb2.ModelRequest(
            model_id="small",
            messages=[run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part("hi")])],
        )
        streaming = asyncio.create_task(run.ask_all("stream_model", run_model_pb2.StreamModelRequest(request=question)))
        await api.arrived.wait()
        api.api_key = "second-key-0123456789"
        rotated = a_provider(api, api_key=api.api_key)
        await ask(host.channel, model_pb2.UpdateModelProviderRequest(model_provider=rotated))
        says(api, "after")
        after = await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=question))
        assert after.answer.message.parts[0].text.text == "after"
        go.set()
        answers = await streaming
        assert answers[-1].stream_model.answer.message.parts[0].text.text == "slow answer"

    await played(host, runtime, script)
    assert [one.headers["authorization"] for one in api.requests] == [f"Bearer {KEY}", "Bearer second-key-0123456789"]
