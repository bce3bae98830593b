"""Knowledge bases: before the model or as its tool, reranked, cut, cited; and a host that has none."""

from collections.abc import Sequence

import pytest

from portway.rpc.errors import PortwayError, Unavailable
from portway.runtime.sdk import MessageRole
from portway.runtime.sdk.testing import Things
from portway.runtime.sdk.testing.things import in_turn, says, wants
from portway.runtime.sdk.types.pulled import KnowledgeHit
from portway.runtime.sdk.types.resources import ModelResource
from tests.runtime.local_agent.playing import model, play, progress, results_of, said_by

RERANKER = ModelResource("order", "rerank", "fake")


def hit(number: int, text: str, score: float, **metadata: str) -> KnowledgeHit:
    return KnowledgeHit("kb", f"doc_{number}", f"chunk_{number}", text, score, metadata)


HITS = (
    hit(1, "Ships float.", 0.9, title="On ships", url="https://example.org/ships"),
    hit(2, "Stones sink.", 0.5, title="On stones"),
    hit(3, "Ducks do both.", 0.1),
)


async def test_passages_stand_before_the_message_and_what_is_cited_is_named_below_the_answer() -> None:
    things = Things(model=in_turn(says("They float [1].")), knowledge={"kb": HITS})
    outcome = await play(things, "do ships float?")
    assert things.queries == ["do ships float?"]
    *_, passages, message = said_by(things.model_requests[0], MessageRole.USER)
    assert message == "do ships float?"
    assert "[1] On ships\nShips float." in passages and "[3] doc_3\nDucks do both." in passages
    assert outcome.messages == ["They float [1].\n\n[1] On ships (https://example.org/ships)"]
    assert outcome.streamed == outcome.messages[0]


async def test_an_answer_that_cites_nothing_names_no_sources_and_they_can_be_switched_off() -> None:
    things = Things(model=in_turn(says("They do.")), knowledge={"kb": HITS})
    assert (await play(things)).messages == ["They do."]
    things = Things(model=in_turn(says("They do [1].")), knowledge={"kb": HITS})
    assert (await play(things, config={"show_sources": False})).messages == ["They do [1]."]


async def test_the_best_ones_are_taken_as_many_as_configured_and_above_the_least_score() -> None:
    things = Things(model=in_turn(says("ok")), knowledge={"kb": HITS})
    await play(things, config={"knowledge_top_k": 2, "knowledge_min_score": 0.6})
    passages = said_by(things.model_requests[0], MessageRole.USER)[0]
    assert "Ships float." in passages and "Stones sink." not in passages


async def test_a_rerank_model_orders_what_was_found() -> None:
    def rerank(query: str, texts: Sequence[str]) -> Sequence[float]:
        assert query == "what do ducks do?"
        return [0.1 if "Ships" in text else 0.9 if "Ducks" in text else 0.5 for text in texts]

    things = Things(model=in_turn(says("Both [1].")), models=(model(), RERANKER), knowledge={"kb": HITS}, rerank=rerank)
    outcome = await play(things, "what do ducks do?", config={"knowledge_top_k": 2, "rerank_model": "order"})
    passages = said_by(things.model_requests[0], MessageRole.USER)[0]
    assert passages.index("Ducks do both.") < passages.index("Stones sink.")
    assert "Ships float." not in passages
    assert outcome.messages == ["Both [1].\n\n[1] doc_3"]


async def test_a_reranker_that_fails_leaves_the_order_of_the_bases() -> None:
    def rerank(query: str, texts: Sequence[str]) -> PortwayError:
        return Unavailable("the reranker is away")

    things = Things(model=in_turn(says("ok")), models=(model(), RERANKER), knowledge={"kb": HITS}, rerank=rerank)
    outcome = await play(things)
    passages = said_by(things.model_requests[0], MessageRole.USER)[0]
    assert passages.index("Ships float.") < passages.index("Stones sink.")
    assert "passages are not reranked: the reranker is away" in progress(outcome)


async def test_passages_stay_within_their_tokens() -> None:
    long = (hit(1, "long " * 1000, 0.9), hit(2, "short", 0.8))
    things = Things(model=in_turn(says("ok")), knowledge={"kb": long})
    await play(things, config={"knowledge_tokens": 100})
    passages = said_by(things.model_requests[0], MessageRole.USER)[0]
    assert 200 < len(passages) < 700
    assert "short" not in passages


async def test_as_a_tool_the_model_searches_when_it_wants_to_and_numbers_go_on() -> None:
    answers = in_turn(
        wants(("search_knowledge", '{"query": "ships", "top_k": 1}')),
        wants(("search_knowledge", '{"query": "stones", "top_k": 2}'), ("search_knowledge", "{}")),
        says("Ships float [1], stones sink [2]."),
    )
    things = Things(model=answers, knowledge={"kb": HITS})
    outcome = await play(things, config={"knowledge_mode": "tool"})
    assert things.queries == ["ships", "stones"]
    assert [tool.name for tool in things.model_requests[0].tools] == ["search_knowledge", "ask_person"]
    first, second, wrong = results_of(things.model_requests[2])
    assert first.text == "[1] On ships\nShips float."
    assert second.text == "[1] On ships\nShips float.\n\n[2] On stones\nStones sink."
    assert wrong.is_error and "arguments.query is missing" in wrong.text
    assert outcome.messages[0].endswith("\n\n[1] On ships (https://example.org/ships)\n[2] On stones")


@pytest.mark.parametrize("mode", ["context", "tool"])
async def test_a_host_without_knowledge_is_noted_once_and_the_run_goes_on(
    mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = in_turn(wants(("search_knowledge", '{"query": "a"}')), says("ok"), says("ok"))
    if mode == "context":
        answers = in_turn(says("ok"))
    things = Things(model=answers, knowledge={"kb": HITS}, missing_calls=frozenset({"retrieve_knowledge"}))
    outcome = await play(things, config={"knowledge_mode": mode})
    assert outcome.messages == ["ok"]
    assert capfd.readouterr().err.count("answering without knowledge bases") == 1
    assert outcome.terminal.HasField("run_completed")


async def test_bases_that_the_run_was_not_granted_are_noted_and_not_asked(capfd: pytest.CaptureFixture[str]) -> None:
    things = Things(model=in_turn(says("ok")))
    outcome = await play(things, config={"knowledge_bases": ["manual"]})
    assert outcome.messages == ["ok"]
    assert things.queries == [] and things.refusals == []
    assert capfd.readouterr().err.count("the run was granted no knowledge base") == 1
    assert "granted no knowledge base" in progress(outcome)


async def test_without_any_base_nothing_is_said_about_knowledge() -> None:
    outcome = await play(Things(model=in_turn(says("ok"))))
    assert outcome.kinds == ["message_delta", "message_completed", "run_completed"]
