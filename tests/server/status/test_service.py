"""StatusService over the wire: what works, what does not, and why."""

from pathlib import Path

from portway.v1 import status_pb2
from tests.asking import ask
from tests.fakes.adapter_client import an_adapter
from tests.fakes.runtime_server import FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import Hosted, hosted

OK, DEGRADED = status_pb2.PART_STATE_OK, status_pb2.PART_STATE_DEGRADED
UNAVAILABLE, DISABLED = status_pb2.PART_STATE_UNAVAILABLE, status_pb2.PART_STATE_DISABLED


async def parts(served: Hosted) -> dict[str, status_pb2.PartStatus]:
    status = await ask(served.channel, status_pb2.GetStatusRequest())
    return {part.name: part for part in status.parts}


async def test_every_part_is_told_with_the_reason_where_it_does_not_work(served: Hosted) -> None:
    found = await parts(served)
    assert {name: part.state for name, part in found.items() if not name.startswith("agent:")} == {
        "host": OK,
        # The fake knows no status of its own: it answers, and what it says is passed on.
        "runtime": UNAVAILABLE,
        "box": DISABLED,
        "database": OK,
        "models": OK,
    }
    assert "not available in this version" in found["runtime"].reason
    assert "portway up" in found["box"].reason
    assert "demo" in found["models"].reason


async def test_without_a_runtime_the_host_answers_and_says_so(tmp_path: Path) -> None:
    async with hosted(tmp_path, None) as host:
        found = await parts(host)
        assert found["runtime"].state == UNAVAILABLE
        assert found["runtime"].reason


async def test_adapters_are_parts_connected_or_not(served: Hosted) -> None:
    token = (await make_token(served, "adapter")).secret
    async with an_adapter(served.address, token) as adapter:
        await adapter.hello()
        assert (await parts(served))["adapter:web_chat"].state == OK
        await adapter.leave()
    gone = (await parts(served))["adapter:web_chat"]
    assert gone.state == UNAVAILABLE
    assert "deliveries wait" in gone.reason


async def test_an_agent_that_cannot_answer_is_named_with_the_reason(served: Hosted) -> None:
    assert not any(name.startswith("agent:") for name in await parts(served))
    await served.add_agent("lost", runner_id="plugin:tests/fake/gone")
    await served.add_agent("bent", config_json='{"rounds": "three"}')
    await served.add_agent("off", runner_id="plugin:tests/fake/gone", disabled=True)
    found = {name: part for name, part in (await parts(served)).items() if name.startswith("agent:")}
    assert found.keys() == {"agent:lost", "agent:bent"}
    assert "plugin:tests/fake/runner" in found["agent:lost"].reason
    assert "config.rounds must be a number" in found["agent:bent"].reason


async def test_figures_tell_what_runs_waits_and_was_written(served: Hosted, schema_runtime: FakeRuntime) -> None:
    before = await ask(served.channel, status_pb2.GetStatusRequest())
    await served.asked("hi", surface="telegram")
    await served.asked("hi")
    after = await ask(served.channel, status_pb2.GetStatusRequest())
    assert after.sql_commit_count > before.sql_commit_count
    assert after.sql_statement_count > before.sql_statement_count
    assert after.free_disk_bytes > 0
    assert after.host_epoch == 1
    assert after.pending_delivery_count == 1
    assert (after.active_run_count, after.queued_run_count) == (0, 0)


async def test_methods_are_listed_with_who_may_call_them_and_whether_they_are_served(served: Hosted) -> None:
    listed = {one.name: one for one in (await ask(served.channel, status_pb2.ListMethodsRequest())).methods}
    assert listed["portway.v1.DeliveryService/RetryDelivery"].served
    assert listed["portway.v1.AuditService/WatchAudit"].served
    assert not listed["portway.v1.KnowledgeService/ListKnowledgeEngines"].served
    assert all(one.roles for one in listed.values())
    version = await ask(served.channel, status_pb2.GetVersionRequest())
    assert list(version.runner_protocol_versions) == list(version.adapter_protocol_versions) == [1]
