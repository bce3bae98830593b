"""The names of sandboxes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portway.rpc.errors import InvalidInput, WrongState
from portway.server.tools.session_name import SessionFacts, check_template, session_name

# What the box accepts as a session id.
BOX_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}\Z")

FACTS = SessionFacts("group", "g1", "u1", "cnv_1", "t1", "evt_1")


def test_the_default_is_the_launcher_behind_workspace_and_agent() -> None:
    assert session_name("default", "assistant", "", FACTS) == "default:assistant:group_g1"


def test_values_are_escaped_and_literals_are_not() -> None:
    facts = replace(FACTS, sender_id="a/b:c_d é")
    assert session_name("w", "a", "user-{sender_id}", facts) == "w:a:user-a.2fb.3ac.5fd.20.c3.a9"


def test_a_call_of_the_api_is_launched_by_its_conversation() -> None:
    facts = SessionFacts(conversation_id="cnv_1", event_id="evt_1")
    assert session_name("w", "a", "", facts) == "w:a:conversation_cnv.5f1"


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        ("", SessionFacts(event_id="evt_1")),
        ("", SessionFacts("group", "", conversation_id="cnv_1")),
        ("{thread_id}", replace(FACTS, thread_id="")),
        ("{conversation_id}_{sender_id}", replace(FACTS, sender_id="")),
    ],
)
def test_a_variable_that_the_event_lacks_refuses_and_never_becomes_a_shared_name(
    template: str, facts: SessionFacts
) -> None:
    with pytest.raises(WrongState, match="which this event does not have"):
        session_name("w", "a", template, facts)


@pytest.mark.parametrize(
    "template",
    ["shared", "{nobody}", "{sender_id", "{}", "{sender_id!r}", "{sender_id:>9}", "a b{sender_id}", "../{sender_id}",
     "{launcher_type}{launcher_id}", "{launcher_type}x{launcher_id}", "{sender_id.__class__}"],
)  # fmt: skip
def test_templates_that_cannot_make_good_names_are_refused(template: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_template(template)
    assert caught.value.fields[0].field == "box_policy.session_template"


@pytest.mark.parametrize("template", ["", "{event_id}", "bot-{sender_id}", "{conversation_id}_{thread_id}-x"])
def test_good_templates_are_accepted(template: str) -> None:
    check_template(template)
    assert BOX_PATTERN.match(session_name("w", "a", template, FACTS))


values = st.text(min_size=1, max_size=300)


@given(values, values, values, values)
def test_every_name_is_one_that_the_box_accepts(workspace: str, agent: str, launcher: str, kind: str) -> None:
    assert BOX_PATTERN.match(session_name(workspace, agent, "", SessionFacts(kind, launcher)))


@given(st.tuples(values, values, values, values), st.tuples(values, values, values, values))
def test_different_values_never_share_a_name(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assume(one != other)

    def name(parts: tuple[str, ...]) -> str:
        return session_name(parts[0], parts[1], "", SessionFacts(parts[2], parts[3]))

    assert name(one) != name(other)
