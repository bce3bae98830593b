"""Models of every type, asked by a run: on its stream, with its token, and in a session."""

import asyncio

from portway.rpc.errors import Reason
from portway.server.agents.types import ResourcePolicy
from portway.v1 import run_call_pb2, run_model_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted
from tests.server.playing import played

MODELS = ResourcePolicy(model_ids=("demo-embed", "demo-rerank"))
RANKING = run_model_pb2.RerankDocumentsRequest(
    model_id="demo-rerank", query="warm red apple", documents=["a blue car", "the apple is red", "warm"], top_k=2
)


async def test_a_run_reranks_and_embeds_in_all_three_ways(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(resource_policy=MODELS)

    async def script(run: FakeRun) -> None:
        kinds = {one.model_id: one.type for one in run.context.resources.models}
        assert kinds["demo-embed"] == "embedding"
        assert kinds["demo-rerank"] == "rerank"
        streamed = await run.ask("rerank_documents", RANKING)
        assert [(one.index, round(one.score, 3)) for one in streamed.scores] == [(1, 0.667), (2, 0.333)]
        assert streamed.usage.model_id == "demo-rerank"
        assert not streamed.usage.HasField("cost_micros")
        async with host.runner(run.start.run_token) as stub:
            assert await stub.RerankDocuments(RANKING) == streamed
            session = stub.OpenSession()
            call = run_call_pb2.RunCall(call_id=1, rerank_documents=RANKING)
            await session.write(run_call_pb2.OpenSessionRequest(calls=[call]))
            answer = await session.read()
            assert answer.answers[0].rerank_documents == streamed
            await session.done_writing()
        embedding = run_model_pb2.EmbedTextsRequest(model_id="demo-embed", texts=["red apple", "red apple", "car"])
        vectors = (await run.ask("embed_texts", embedding)).embeddings
        assert vectors[0] == vectors[1] != vectors[2]
        assert len(vectors[0].values) == 64
        embedding.dimensions = 8
        assert len((await run.ask("embed_texts", embedding)).embeddings[0].values) == 8

    await played(host, runtime, script)


async def test_models_outside_of_the_snapshot_and_of_the_wrong_type_are_refused(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def script(run: FakeRun) -> None:
        outside = await run.ask("rerank_documents", RANKING)
        wrong = run_model_pb2.RerankDocumentsRequest(model_id="demo", query="q", documents=["d"])
        told = await asyncio.gather(run.ask("rerank_documents", wrong))
        assert outside.reason == Reason.NOT_FOUND
        assert "of type llm" in told[0].message

    await played(host, runtime, script)
