"""What a plugin may, as short texts that people read and that are compared between versions."""

from collections.abc import Iterator, Sequence

from portway.runtime.plugins.types import HistoryScope, PluginDefinition

# The usual one is nobody's to grant: only what reaches farther is.
_SCOPES = {HistoryScope.WORKSPACE: "history_scope.workspace"}


def permissions_of(plugin: PluginDefinition) -> Sequence[str]:
    """Of all its components together, because they share a process: what one may, the others reach."""
    return tuple(sorted(set(_asked(plugin))))


def _asked(plugin: PluginDefinition) -> Iterator[str]:
    for runner in plugin.runners:
        yield from (one.value for one in runner.permissions.granted)
        yield from (f"platform_actions.{name}" for name in runner.permissions.platform_actions)
        if runner.permissions.history_scope in _SCOPES:
            yield _SCOPES[runner.permissions.history_scope]
    for component in (*plugin.tools, *plugin.others):
        yield from (one.value for one in component.permissions)
    yield from (f"environment.{name}" for name in plugin.environment)
