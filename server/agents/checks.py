"""What an agent must hold beyond the rules of the contract, whatever its runner."""

from collections.abc import Callable, Iterator
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portway.rpc.errors import FieldViolation, InvalidInput, NotFound
from portway.server.agents.types import AgentSpec
from portway.server.bindings.patterns import violation_of
from portway.server.runtimes.runner import plugin_of
from portway.server.tools.native_specs import chosen
from portway.server.tools.session_name import check_template

MAX_TIMEOUT_SECONDS = 86_400.0
MAX_APPROVAL_SECONDS = 86_400.0


class Models(Protocol):
    """The models of this host."""

    def model(self, model_id: str) -> object:
        """Raises NotFound."""


def violations_of(spec: AgentSpec, models: Models) -> list[FieldViolation]:
    """Everything that is wrong with the agent's policies, each with its path in the request."""
    return [one for one in _all(spec, models) if one is not None]


def _all(spec: AgentSpec, models: Models) -> Iterator[FieldViolation | None]:
    if not spec.name.strip():
        yield FieldViolation("agent.name", "is required")
    yield _meant(lambda: plugin_of(spec.runner_id))
    if not 0 < spec.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        yield FieldViolation("agent.timeout", "must be between 1 ms and 24 hours")
    if not 0 < spec.approval_policy.time_limit_seconds <= MAX_APPROVAL_SECONDS:
        yield FieldViolation("agent.approval_policy.time_limit", "must be between 1 ms and 24 hours")
    yield from _times(spec)
    yield from _patterns(spec)
    yield _time_zone(spec.time_zone)
    yield _meant(lambda: chosen(spec.box_policy.tools))
    if spec.box_policy.session_template:
        yield _meant(lambda: check_template(spec.box_policy.session_template))
    for index, model_id in enumerate(spec.resource_policy.model_ids):
        yield _model(models, f"agent.resource_policy.model_ids[{index}]", model_id)
    for index, alias in enumerate(spec.model_aliases):
        yield _model(models, f"agent.model_aliases[{index}].model_id", alias.model_id)


def _times(spec: AgentSpec) -> Iterator[FieldViolation]:
    times = {
        "agent.conversation_idle": spec.conversation_idle_seconds,
        "agent.retry_policy.first_delay": spec.retry_policy.first_delay_seconds,
        "agent.guards.window": spec.guards.window_seconds,
        "agent.delivery_policy.delivery_ttl": spec.delivery_policy.delivery_ttl_seconds,
        "agent.run_budget.time": spec.run_budget.seconds or 0.0,
        "agent.budget.time": spec.budget.seconds or 0.0,
        "agent.conversation_budget.time": spec.conversation_budget.seconds or 0.0,
    }
    for field, seconds in times.items():
        if seconds < 0:
            yield FieldViolation(field, "must not be negative")


def _patterns(spec: AgentSpec) -> Iterator[FieldViolation | None]:
    lists = {
        "agent.guards.denied_inbound_patterns": spec.guards.denied_inbound_patterns,
        "agent.guards.masked_outbound_patterns": spec.guards.masked_outbound_patterns,
        "agent.box_policy.approved_commands": tuple(one for one in spec.box_policy.approved_commands if one != "*"),
    }
    for field, patterns in lists.items():
        for index, pattern in enumerate(patterns):
            yield violation_of(f"{field}[{index}]", pattern)


def _time_zone(name: str) -> FieldViolation | None:
    if name == "UTC":
        # Also where the system has no time zones.
        return None
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return FieldViolation("agent.time_zone", f"{name!r} is not a time zone such as Europe/Berlin")
    return None


def _model(models: Models, field: str, model_id: str) -> FieldViolation | None:
    try:
        models.model(model_id)
    except NotFound as error:
        return FieldViolation(field, error.message)
    return None


def _meant(check: Callable[[], object]) -> FieldViolation | None:
    """What another noun says of the part that is its own; its paths are relative to the agent."""
    try:
        check()
    except InvalidInput as error:
        first = error.fields[0]
        return FieldViolation(f"agent.{first.field}", first.description)
    return None
