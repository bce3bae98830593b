"""Documents: what is written is what is read, by this version and by its neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.rpc.errors import DataLoss
from portway.server.agents.types import AgentSpec
from portway.server.bindings.types import BindingSpec
from portway.server.storage_engine.documents import from_json, to_json


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str = ""
    colour: Colour = Colour.RED


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    by_name: Mapping[str, int] = field(default_factory=dict)
    limit: int | None = None
    share: float = 0.0
    on: bool = False
    tags: frozenset[str] = frozenset()


inners = st.builds(Inner, name=st.text(), colour=st.sampled_from(Colour))
outers = st.builds(
    Outer,
    inner=inners,
    many=st.lists(inners, max_size=3).map(tuple),
    by_name=st.dictionaries(st.text(), st.integers(), max_size=3),
    limit=st.none() | st.integers(),
    share=st.floats(allow_nan=False),
    on=st.booleans(),
    tags=st.frozensets(st.text(), max_size=3),
)


@given(outers)
def test_what_is_written_is_what_is_read(document: Outer) -> None:
    text = to_json(document)
    assert from_json(Outer, text) == document
    assert to_json(from_json(Outer, text)) == text


def test_a_field_that_is_missing_takes_its_default_and_an_unknown_one_is_dropped() -> None:
    assert from_json(Outer, '{"on": true, "from_the_future": {"x": 1}}') == Outer(on=True)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"inner": 3}', '{"inner": {"colour": "green"}}', '{"many": 7}'])
def test_what_is_no_such_document_is_told(text: str) -> None:
    with pytest.raises(DataLoss, match="Outer"):
        from_json(Outer, text)


def test_the_documents_of_the_host_have_defaults_for_what_they_need_not_say() -> None:
    assert from_json(AgentSpec, '{"name": "a", "runner_id": "r"}') == AgentSpec(name="a", runner_id="r")
    assert from_json(BindingSpec, '{"agent_id": "a"}') == BindingSpec(agent_id="a")
