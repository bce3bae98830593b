"""The test kit runs a runner in this process, and its host refuses what the real one refuses."""

from collections.abc import AsyncIterator

import pytest

from portway.rpc.errors import NotPermitted
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    ModelMessage,
    ModelRequest,
    ModelText,
    RunCompleted,
    RunContext,
    RunResult,
    StateScope,
    TextDelta,
    WantedApproval,
)
from portway.runtime.sdk.testing import Things, run_runner
from portway.runtime.sdk.testing.things import in_turn, says, transcript
from portway.runtime.sdk.types.interactions import Interaction, InteractionKind, PlatformAction


class Storyteller(AgentRunner):
    """Uses a little of everything."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        page = await host.history.page(before=ctx.context.latest_cursor)
        request = ModelRequest("model", tuple(ModelMessage.user(item.content) for item in page.items))
        async for event in host.models.stream(request):
            if isinstance(event, ModelText):
                yield TextDelta(event.text)
        told = await host.state.get(StateScope.CONVERSATION, "told")
        await host.state.set(StateScope.CONVERSATION, "told", (told.value if told else 0) + 1)
        yield MessageCompleted.of_text(ctx.input.text)


async def test_a_runner_runs_against_the_kit() -> None:
    things = Things(model=in_turn(says("once upon a time")), history=transcript("tell", "what?"))
    outcome = await run_runner(
        Storyteller, "a story", things=things, permissions=["models.stream", "history.page", "state"]
    )
    assert outcome.streamed == "once upon a time"
    assert outcome.messages == ["a story"]
    assert outcome.kinds[-1] == "run_completed"
    assert [message.text for message in things.model_requests[0].messages] == ["tell", "what?"]
    assert list(things.state.values()) == [("1", 1)]


class Silent(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> None:  # type: ignore[override]
        """Forgets to yield."""


async def test_a_runner_without_yield_is_told_so() -> None:
    outcome = await run_runner(Silent)
    assert outcome.error_code == "runner.protocol"
    assert "no `yield`" in outcome.terminal.run_failed.error.message


@pytest.mark.parametrize("missing", ["models.stream", "history.page", "state"])
async def test_what_is_not_permitted_is_refused(missing: str) -> None:
    things = Things(model=in_turn(says("once upon a time")), history=transcript("tell"))
    allowed = [name for name in ("models.stream", "history.page", "state") if name != missing]
    outcome = await run_runner(Storyteller, "a story", things=things, permissions=allowed)
    assert outcome.error_code == "runner.error"
    assert missing in outcome.terminal.run_failed.error.message
    assert isinstance(things.refusals[0], NotPermitted)


class Asking(AgentRunner):
    """Asks the platform and people, which ends it."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        await host.request_action("r1", PlatformAction("message.react", "17", {"reaction": "👍"}))
        await host.request_interaction(
            Interaction("q1", InteractionKind.CONFIRMATION, "Sure?", fallback_text="Are you sure?")
        )
        yield RunCompleted(FinishReason.AWAITING_INTERACTION)


async def test_the_kit_keeps_what_was_asked_of_people_and_of_the_platform() -> None:
    things = Things()
    outcome = await run_runner(
        Asking, things=things, permissions=["interactions.request"], platform_actions=["message.react"]
    )
    assert outcome.kinds == ["run_completed"], outcome
    assert things.question is not None and things.question.title == "Sure?"
    assert things.actions["r1"].target == "17"
    refused = await run_runner(Asking)
    assert refused.error_code == "runner.error"


class Careful(AgentRunner):
    """Asks people before it does something itself."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        receipt = await host.approvals.request(WantedApproval("a1", "Bash", "Run ls?", {"command": "ls"}))
        yield MessageCompleted.of_text(receipt.approval_id)


async def test_the_kit_plays_the_people_who_approve() -> None:
    asked = Things(approve=lambda wanted: wanted.details["command"] == "ls")
    outcome = await run_runner(Careful, things=asked, permissions=["approvals.request"])
    assert outcome.messages == ["apr_a1"] and asked.approvals["a1"].title == "Run ls?"
    for things, code in ((Things(approve=lambda _: False), "refused it"), (Things(), "in time")):
        refused = await run_runner(Careful, things=things, permissions=["approvals.request"])
        assert code in refused.terminal.run_failed.error.message
    assert (await run_runner(Careful, things=asked)).error_code == "runner.error"
