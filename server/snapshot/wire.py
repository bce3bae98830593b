"""Between permissions and their messages."""

from portway.server.snapshot.permissions import HistoryScope, Permissions
from portway.v1 import runner_pb2

_FLAGS = tuple(field.name for field in runner_pb2.RunnerPermissions.DESCRIPTOR.fields if field.type == field.TYPE_BOOL)


def permissions_of(message: runner_pb2.RunnerPermissions) -> Permissions:
    allowed = frozenset(name for name in _FLAGS if getattr(message, name))
    scope = HistoryScope(message.history_scope) if message.history_scope else HistoryScope.CONVERSATION
    return Permissions(allowed, scope, frozenset(message.platform_actions))


def permissions_message(permissions: Permissions) -> runner_pb2.RunnerPermissions:
    message = runner_pb2.RunnerPermissions(
        history_scope=runner_pb2.HistoryScope.Name(permissions.history_scope.value),  # type: ignore[arg-type]
        platform_actions=sorted(permissions.platform_actions),
    )
    for name in permissions.allowed:
        setattr(message, name, True)
    return message
