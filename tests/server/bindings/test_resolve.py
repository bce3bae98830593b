"""Which binding holds, as a pure function."""

from hypothesis import given
from hypothesis import strategies as st

from portway.server.agents.types import ManagedBy
from portway.server.bindings.patterns import is_found, replaced, violation_of
from portway.server.bindings.resolve import Bound, clash, filter_count, resolve
from portway.server.bindings.types import Binding, BindingFilters, BindingScope, BindingSpec
from portway.server.events.facts import EventFacts

MESSAGE = "message.received"
SCOPES = ["global", "workspace", "bot", "channel", "conversation"]


def bound(
    binding_id: str,
    scope: str = "workspace",
    *,
    scope_id: str = "",
    agent_id: str = "assistant",
    event_types: tuple[str, ...] = (MESSAGE,),
    disabled: bool = False,
    missing: bool = False,
    filters: BindingFilters = BindingFilters(),  # noqa: B008 - frozen
) -> Bound:
    spec = BindingSpec(
        agent_id=agent_id, scope=BindingScope(scope), scope_id=scope_id, filters=filters, disabled=disabled
    )
    return Bound(Binding("default", binding_id, 1, ManagedBy.API, spec, 0, 0), event_types, missing)


def facts(text: str = "hello", **more: object) -> EventFacts:
    given_facts = {
        "workspace_id": "default",
        "type": MESSAGE,
        "source": "test",
        "surface": "telegram",
        "bot_id": "bot-1",
        "channel_id": "chn-1",
        "conversation_id": "cnv_1",
        "launcher_type": "group",
        "launcher_id": "team",
        "actor_id": "ada",
        "text": text,
    }
    return EventFacts(**{**given_facts, **more})  # type: ignore[arg-type]  # fields of the facts


EVERY_SCOPE = [
    bound("b-global", "global"),
    bound("b-workspace", "workspace"),
    bound("b-bot", "bot", scope_id="bot-1"),
    bound("b-channel", "channel", scope_id="chn-1"),
    bound("b-conversation", "conversation", scope_id="cnv_1"),
]


def test_the_most_specific_scope_wins() -> None:
    for last in range(1, 6):
        resolution = resolve(facts(), EVERY_SCOPE[:last])
        assert resolution.binding_id == EVERY_SCOPE[last - 1].binding.binding_id
        assert len(resolution.candidates) == last
        assert resolution.candidates[0].reason in ("it won",)


def test_a_scope_of_another_place_does_not_fit_and_says_so() -> None:
    resolution = resolve(facts(bot_id="bot-2"), [bound("b", "bot", scope_id="bot-1")])
    assert resolution.binding_id == ""
    assert resolution.candidates[0].reason == "it is for the bot 'bot-1'"


def test_two_that_are_equal_are_named_and_neither_wins() -> None:
    resolution = resolve(facts(), [bound("one"), bound("two"), bound("wide", "global")])
    assert resolution.binding_id == ""
    assert resolution.ambiguous == ("one", "two")


def test_within_a_scope_the_one_with_more_filters_wins() -> None:
    narrow = bound("narrow", filters=BindingFilters(prefix="!"))
    assert resolve(facts("!help"), [bound("wide"), narrow]).binding_id == "narrow"
    assert resolve(facts("help"), [bound("wide"), narrow]).binding_id == "wide"


def test_every_filter_must_fit_and_the_first_that_does_not_is_the_reason() -> None:
    cases = [
        (BindingFilters(sender_ids=("eve",)), "it is not for the sender 'ada'"),
        (BindingFilters(group_ids=("others",)), "it is not for the group 'team'"),
        (BindingFilters(surfaces=("discord",)), "it is not for the surface 'telegram'"),
        (BindingFilters(mention=True), "the bot was not addressed"),
        (BindingFilters(prefix="!"), "the text does not begin with '!'"),
        (BindingFilters(pattern="^bye$"), "the text does not match its pattern"),
    ]
    for filters, reason in cases:
        resolution = resolve(facts(), [bound("b", filters=filters)])
        assert resolution.candidates[0].reason == reason
    fitting = BindingFilters(
        sender_ids=("ada",), group_ids=("team",), surfaces=("telegram",), mention=True, prefix="he", pattern="l+o"
    )
    assert resolve(facts(addressed=True), [bound("b", filters=fitting)]).binding_id == "b"
    assert filter_count(fitting) == 6


def test_who_writes_to_the_bot_alone_has_addressed_it() -> None:
    asked = bound("b", filters=BindingFilters(mention=True))
    assert resolve(facts(launcher_type="person"), [asked]).binding_id == "b"


def test_a_binding_for_groups_does_not_fit_a_chat_of_two() -> None:
    groups = bound("b", filters=BindingFilters(group_ids=("team",)))
    assert resolve(facts(launcher_type="person", launcher_id="team"), [groups]).binding_id == ""


def test_what_is_switched_off_of_another_type_or_without_an_agent_does_not_fit() -> None:
    off, other = bound("off", disabled=True), bound("other", event_types=("reaction.added",))
    agentless = bound("agentless", "global", missing=True)
    resolution = resolve(facts(), [off, other, agentless])
    assert {one.binding_id: one.reason for one in resolution.candidates} == {
        "off": "it is switched off",
        "other": "it is for reaction.added",
        "agentless": "this workspace has no agent 'assistant'",
    }
    assert resolution.reason == "none of 3 bindings fits"


def test_an_explanation_is_bounded() -> None:
    resolution = resolve(facts(), [bound(f"b{number}", "bot", scope_id=str(number)) for number in range(500)])
    assert len(resolution.candidates) == 200


def test_bindings_that_can_meet_clash_and_those_that_cannot_do_not() -> None:
    ada, eve = BindingFilters(sender_ids=("ada",)), BindingFilters(sender_ids=("eve",))
    assert clash(bound("one"), bound("two"))
    assert clash(bound("one", filters=ada), bound("two", filters=BindingFilters(prefix="!")))
    assert not clash(bound("one", filters=ada), bound("two", filters=eve))
    assert not clash(bound("one", filters=ada), bound("two"))
    assert not clash(bound("one"), bound("two", disabled=True))
    assert not clash(bound("one"), bound("two", event_types=("reaction.added",)))
    assert not clash(bound("one", "bot", scope_id="1"), bound("two", "bot", scope_id="2"))
    prefixes = [BindingFilters(prefix=text) for text in ("!", "!help", "/")]
    assert clash(bound("one", filters=prefixes[0]), bound("two", filters=prefixes[1]))
    assert not clash(bound("one", filters=prefixes[0]), bound("two", filters=prefixes[2]))


FILTERS = st.builds(
    BindingFilters,
    sender_ids=st.sampled_from([(), ("ada",), ("eve",), ("ada", "eve")]),
    prefix=st.sampled_from(["", "h", "he", "x"]),
    mention=st.booleans(),
    surfaces=st.sampled_from([(), ("telegram",), ("discord",)]),
)
BINDINGS = st.lists(
    st.builds(
        lambda scope, filters, disabled: (scope, filters, disabled),
        st.sampled_from(["global", "workspace"]),
        FILTERS,
        st.booleans(),
    ),
    max_size=6,
)


@given(made=BINDINGS, sender=st.sampled_from(["ada", "eve"]), addressed=st.booleans())
def test_bindings_that_do_not_clash_are_never_ambiguous(
    made: list[tuple[str, BindingFilters, bool]], sender: str, addressed: bool
) -> None:
    kept: list[Bound] = []
    for number, (scope, filters, disabled) in enumerate(made):
        one = bound(f"b{number}", scope, filters=filters, disabled=disabled)
        if not any(clash(one, other) for other in kept):
            kept.append(one)
    assert resolve(facts(actor_id=sender, addressed=addressed), kept).ambiguous == ()


def test_patterns_that_could_run_for_ever_answer_at_once_and_bad_ones_are_named() -> None:
    assert not is_found("(a+)+$", "a" * 200_000 + "b")
    assert is_found("(?i)hello", "well, HELLO")
    violation = violation_of("filters.pattern", "(?=x)")
    assert violation is not None
    assert violation.field == "filters.pattern"
    assert "RE2" in violation.description
    assert violation_of("filters.pattern", "^ok$") is None
    assert is_found("(", "a (plain) text")
    assert replaced("(?i)key-\\d+", "my KEY-12", "***") == "my ***"
    assert replaced("(", "a (", "*") == "a *"
