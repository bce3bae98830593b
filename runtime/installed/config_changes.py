"""What changed in the configuration of runners so that agents made for the version before may not fit any more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portway.runtime.plugins.types import ConfigField, PluginDefinition, RunnerDefinition


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """`field` is empty where the runner itself is gone."""

    runner_id: str
    field: str
    message: str


def config_changes(before: PluginDefinition | None, after: PluginDefinition) -> Sequence[ConfigChange]:
    if before is None:
        return ()
    now = {one.id: one for one in after.runners}
    return tuple(change for runner in before.runners for change in _of_runner(runner, now.get(runner.id)))


def _of_runner(before: RunnerDefinition, after: RunnerDefinition | None) -> Iterator[ConfigChange]:
    if after is None:
        yield ConfigChange(before.id, "", "is gone; give its agents another runner")
        return
    old, new = ({one.name: one for one in runner.config_schema} for runner in (before, after))
    for name, field in old.items():
        if name not in new:
            yield ConfigChange(before.id, name, "is gone; remove it from the agents' configuration")
        else:
            yield from (ConfigChange(before.id, name, message) for message in _of_field(field, new[name]))
    for name, field in new.items():
        if name not in old and field.required and field.default is None:
            yield ConfigChange(before.id, name, "is new and required; set it in the agents' configuration")


def _of_field(before: ConfigField, after: ConfigField) -> Iterator[str]:
    if before.type is not after.type:
        yield f"was {before.type}, is {after.type} now; write its values anew"
    if after.required and after.default is None and not before.required:
        yield "is required now; set it in the agents' configuration"
    if gone := {one.value for one in before.options} - {one.value for one in after.options}:
        yield f"has no option {', '.join(sorted(gone))} any more; choose another where it was chosen"
