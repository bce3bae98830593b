"""Permissions in a manifest: `models: [invoke, stream]` or `models: {invoke: true}`; unknown ones reject the runner."""

from collections.abc import Iterator

from portway.runtime.plugins.fields import Fields, suggestion
from portway.runtime.plugins.types import HistoryScope, Permission, Permissions

_SCOPE = "history_scope"
_ACTIONS = "platform_actions"
_SINGLE = frozenset({Permission.STATE, Permission.PROMPT})
_GROUPS: dict[str, dict[str, Permission]] = {}
for _permission in Permission:
    _group, _, _action = _permission.partition(".")
    if _action:
        _GROUPS.setdefault(_group, {})[_action] = _permission


def read_permissions(fields: Fields) -> Permissions:
    granted: set[Permission] = set()
    for key in fields.keys():
        if key in _SINGLE:
            if fields.flag(key):
                granted.add(Permission(key))
        elif key in _GROUPS:
            granted.update(_read_group(fields, key))
        elif key not in (_SCOPE, _ACTIONS):
            known = [*_GROUPS, *_SINGLE, _SCOPE, _ACTIONS]
            fields.error(key, f"is no permission{suggestion(key, known)}; correct or remove it")
    return Permissions(
        granted=frozenset(granted),
        history_scope=fields.choice(_SCOPE, HistoryScope, HistoryScope.CONVERSATION),
        platform_actions=fields.texts(_ACTIONS, longest=128),
    )


def _read_group(fields: Fields, key: str) -> Iterator[Permission]:
    actions = _GROUPS[key]
    if isinstance(fields.raw(key), list):
        wanted = dict.fromkeys(fields.texts(key), True)
    else:
        section = fields.section(key)
        wanted = {action: section.flag(action) for action in section.keys()}
    for action, allowed in wanted.items():
        if action not in actions:
            fields.error(f"{key}.{action}", f"is no permission{suggestion(action, actions)}; correct or remove it")
        elif allowed:
            yield actions[action]
