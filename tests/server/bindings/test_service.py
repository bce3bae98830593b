"""BindingService over the wire, and what bindings do to events."""

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, NotPermitted, Reason, Stale, WrongState
from portway.v1 import agent_pb2, binding_pb2
from tests.asking import ask
from tests.server.callers import calling_as
from tests.server.hosting import AGENT, Hosted, a_message


def a_binding(agent_id: str = AGENT, **more: object) -> binding_pb2.Binding:
    return binding_pb2.Binding(agent_id=agent_id, **more)  # type: ignore[arg-type]


async def create(served: Hosted, binding: binding_pb2.Binding, request_id: str = "") -> binding_pb2.Binding:
    answer = await ask(served.channel, binding_pb2.CreateBindingRequest(binding=binding, request_id=request_id))
    made: binding_pb2.Binding = answer.binding
    return made


async def test_a_binding_is_made_read_changed_listed_and_removed(served: Hosted) -> None:
    made = await create(served, a_binding(filters={"prefix": "!"}))
    assert made.scope == binding_pb2.BINDING_SCOPE_WORKSPACE
    made.disabled = True
    changed = (await ask(served.channel, binding_pb2.UpdateBindingRequest(binding=made))).binding
    assert (changed.revision, changed.disabled) == (2, True)
    assert (await ask(served.channel, binding_pb2.GetBindingRequest(binding_id=made.binding_id))).binding == changed
    with pytest.raises(Stale):
        await ask(served.channel, binding_pb2.UpdateBindingRequest(binding=made))
    await ask(served.channel, binding_pb2.DeleteBindingRequest(binding_id=made.binding_id))
    with pytest.raises(NotFound):
        await ask(served.channel, binding_pb2.GetBindingRequest(binding_id=made.binding_id))


async def test_the_list_shows_the_workspaces_own_then_the_global_ones_in_pages(served: Hosted) -> None:
    made = [(await create(served, a_binding(filters={"prefix": str(number)}))).binding_id for number in range(3)]
    ids: list[str] = []
    request = binding_pb2.ListBindingsRequest(page_size=2)
    while True:
        page = await ask(served.channel, request)
        ids += [binding.binding_id for binding in page.bindings]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert ids == [*sorted(made), "default"]
    await served.add_agent("other")
    other = await create(served, a_binding("other", filters={"prefix": "/"}))
    of_other = await ask(served.channel, binding_pb2.ListBindingsRequest(agent_id="other"))
    assert [binding.binding_id for binding in of_other.bindings] == [other.binding_id]


async def test_a_saved_binding_holds_for_the_next_event(served: Hosted) -> None:
    await served.add_agent("helper")
    binding = await create(served, a_binding("helper", filters={"prefix": "!"}))
    assert (await served.asked("!help")).agent_id == "helper"
    assert (await served.asked("help")).agent_id == AGENT
    await ask(served.channel, binding_pb2.DeleteBindingRequest(binding_id=binding.binding_id))
    assert (await served.asked("!help")).agent_id == AGENT


async def test_two_equal_bindings_are_refused_when_saved_naming_both(served: Hosted) -> None:
    first = await create(served, a_binding())
    with pytest.raises(Conflict) as refusal:
        await create(served, a_binding())
    assert refusal.value.reason == Reason.BINDING_AMBIGUOUS
    assert first.binding_id in refusal.value.message
    other = await create(served, a_binding(filters={"prefix": "!"}))
    other.filters.Clear()
    with pytest.raises(Conflict):
        await ask(served.channel, binding_pb2.UpdateBindingRequest(binding=other))
    page = await ask(served.channel, binding_pb2.ListBindingsRequest())
    assert len(page.bindings) == 3


async def test_two_that_became_equal_answer_nothing_and_are_named(served: Hosted) -> None:
    one, other = await served.bind(AGENT), await served.bind(AGENT)
    with pytest.raises(WrongState) as refusal:
        await served.submit("hi")
    assert refusal.value.reason == Reason.BINDING_AMBIGUOUS
    assert one in refusal.value.message
    assert other in refusal.value.message


async def test_what_cannot_work_is_refused_with_its_field(served: Hosted) -> None:
    for binding, field in (
        (a_binding(""), "binding.agent_id"),
        (a_binding(scope=binding_pb2.BINDING_SCOPE_BOT), "binding.scope_id"),
        (a_binding(scope_id="x"), "binding.scope_id"),
        (a_binding(filters={"pattern": "(?<=a)b"}), "binding.filters.pattern"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            await create(served, binding)
        assert refusal.value.fields[0].field == field
    with pytest.raises(NotFound, match="nobody"):
        await create(served, a_binding("nobody"))


async def test_a_global_binding_is_the_administrators_to_make_and_remove(served: Hosted) -> None:
    wanted = a_binding(scope=binding_pb2.BINDING_SCOPE_GLOBAL, filters={"prefix": "!"})
    async with calling_as(served, "operator") as operator:
        with pytest.raises(NotPermitted):
            await ask(operator, binding_pb2.CreateBindingRequest(binding=wanted))
        with pytest.raises(NotPermitted):
            await ask(operator, binding_pb2.DeleteBindingRequest(binding_id="default"))
        seen = (await ask(operator, binding_pb2.GetBindingRequest(binding_id="default"))).binding
        assert seen.managed_by == binding_pb2.MANAGED_BY_HOST
    made = await create(served, wanted)
    made.scope = binding_pb2.BINDING_SCOPE_WORKSPACE
    with pytest.raises(InvalidInput):
        await ask(served.channel, binding_pb2.UpdateBindingRequest(binding=made))


async def test_the_same_request_answers_with_the_first(served: Hosted) -> None:
    first = await create(served, a_binding(), request_id="r1")
    assert await create(served, a_binding(), request_id="r1") == first
    with pytest.raises(Conflict):
        await create(served, a_binding(filters={"prefix": "!"}), request_id="r1")


async def test_a_change_of_an_agents_event_types_that_makes_two_bindings_equal_is_refused(served: Hosted) -> None:
    await served.add_agent("listener", event_types=("reaction.added",))
    await create(served, a_binding(event_types=["message.received"]))
    await create(served, a_binding("listener"))
    listener = (await ask(served.channel, agent_pb2.GetAgentRequest(agent_id="listener"))).agent
    listener.event_types[:] = ["message.received"]
    with pytest.raises(Conflict) as refusal:
        await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=listener))
    assert refusal.value.reason == Reason.BINDING_AMBIGUOUS
    kept = (await ask(served.channel, agent_pb2.GetAgentRequest(agent_id="listener"))).agent
    assert list(kept.event_types) == ["reaction.added"]


async def test_why_a_binding_won_is_explained_for_an_accepted_event(served: Hosted) -> None:
    narrow = await create(served, a_binding(filters={"prefix": "!"}))
    accepted = await served.submit(a_message("!help"))
    request = binding_pb2.ExplainBindingRequest(event_id=accepted.event_id)
    explanation = (await ask(served.channel, request)).explanation
    assert explanation.binding_id == narrow.binding_id
    assert [(one.binding_id, one.fits) for one in explanation.candidates] == [
        (narrow.binding_id, True),
        ("default", True),
    ]
    with pytest.raises(NotFound):
        await ask(served.channel, binding_pb2.ExplainBindingRequest(event_id="evt_missing"))
