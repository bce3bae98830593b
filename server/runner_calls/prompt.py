"""The instructions of an agent, piece by piece and with their source: the runner assembles them.

And the messages that arrived during the run.
"""

import json

from portway.rpc.errors import Reason, WrongState
from portway.server.events.wire import facts_of
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.runs.ledger import mark_injected
from portway.server.runs.pending import Arrival
from portway.server.runtimes.runner import FieldType
from portway.server.snapshot.context_parts import input_of
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import content_pb2, event_pb2, run_pull_pb2

_ROLES = {
    "system": content_pb2.MESSAGE_ROLE_SYSTEM,
    "user": content_pb2.MESSAGE_ROLE_USER,
    "assistant": content_pb2.MESSAGE_ROLE_ASSISTANT,
}


class PromptCalls:
    """GetPrompt."""

    async def get_prompt(self, run: RunScope, request: run_pull_pb2.GetPromptRequest) -> run_pull_pb2.GetPromptResponse:
        run.allow("prompt", "GetPrompt")
        config = json.loads(run.snapshot.spec.config_json)
        response = run_pull_pb2.GetPromptResponse()
        for field in run.snapshot.runner.config_fields:
            if field.type is not FieldType.PROMPT_EDITOR:
                continue
            value = config.get(field.name)
            if value is None and field.default_json:
                value = json.loads(field.default_json)
            for role, text in _fragments(value):
                response.fragments.add(role=role, text=text, source=f"agent.config.{field.name}")
        return response


def _fragments(value: object) -> "list[tuple[content_pb2.MessageRole.ValueType, str]]":
    """One text, or a list of {role, content}."""
    if isinstance(value, str):
        return [(content_pb2.MESSAGE_ROLE_SYSTEM, value)] if value else []
    if not isinstance(value, list):
        return []
    found = []
    for item in value:
        if isinstance(item, dict) and isinstance(item.get("content"), str):
            role = _ROLES.get(str(item.get("role", "system")), content_pb2.MESSAGE_ROLE_SYSTEM)
            found.append((role, item["content"]))
    return found


def steering_message(arrival: Arrival, workspace_id: str) -> run_pull_pb2.SteeringMessage:
    """A message that arrived during a run."""
    event = event_pb2.Event.FromString(arrival.payload)
    message = run_pull_pb2.SteeringMessage(
        steering_id=arrival.steering_id,
        event_id=arrival.event_id,
        input=input_of(event, facts_of(event, workspace_id)),
    )
    message.actor.CopyFrom(event.actor)
    return message


class SteeringCalls:
    """PullSteering. What it returns counts as handed over."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def pull_steering(
        self, run: RunScope, request: run_pull_pb2.PullSteeringRequest
    ) -> run_pull_pb2.PullSteeringResponse:
        run.check_alive()
        if "steering" not in run.snapshot.runner.capabilities:
            raise WrongState("the runner lacks the capability steering", reason=Reason.NOT_SUPPORTED_HERE)
        count = request.limit or len(run.arrivals)
        taken, run.arrivals = run.arrivals[:count], run.arrivals[count:]
        if not taken:
            return run_pull_pb2.PullSteeringResponse()
        positions = [arrival.position for arrival in taken]

        def unit(tx: Transaction) -> list[int]:
            check_fence(tx, run.fence)
            return mark_injected(tx, run.fence, positions)

        try:
            handed = set(await self._writer.run(unit))
        except BaseException:
            run.arrivals = [*taken, *run.arrivals]
            raise
        # What its sender has taken back meanwhile is not handed over.
        taken = [arrival for arrival in taken if arrival.position in handed]
        run.injected(taken)
        return run_pull_pb2.PullSteeringResponse(
            messages=[steering_message(arrival, run.workspace_id) for arrival in taken]
        )
