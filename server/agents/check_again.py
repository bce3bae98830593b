"""Whether an agent that was saved can still answer: runners change, and a file may declare what no runner knows."""

from collections.abc import Mapping

from portway.server.agents.config_schema import violations_of
from portway.server.agents.config_secrets import masked
from portway.server.agents.types import Agent
from portway.server.runtimes.runner import Runner


def problem_of(agent: Agent, runners: Mapping[str, Runner]) -> str:
    """What is wrong and what to do; '' where nothing is."""
    runner = runners.get(agent.spec.runner_id)
    if runner is None:
        known = ", ".join(sorted(runners)) or "none"
        return f"the runtime has no runner {agent.spec.runner_id!r}; it has: {known}. `portway plugin list` says more"
    found = violations_of(masked(agent.spec.config_json), runner.config_fields)
    if found:
        said = "; ".join(f"{one.field.removeprefix('agent.')} {one.description}" for one in found)
        return f"its configuration does not fit its runner: {said}"
    return ""
