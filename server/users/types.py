"""People of a workspace."""

from dataclasses import dataclass

from portway.rpc.identity import Role

# What tokens of a user with a role may be. A viewer reads what a member may not, and a member says what a viewer may
# not: neither is more than the other.
TOKEN_ROLES = {
    Role.OPERATOR: frozenset({Role.OPERATOR, Role.VIEWER, Role.MEMBER}),
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.MEMBER: frozenset({Role.MEMBER}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpec:
    """What is kept of a person. `actor_ids` are `surface:id`, each one person's alone."""

    name: str
    role: Role
    actor_ids: tuple[str, ...] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """`revision` grows with every change."""

    workspace_id: str
    user_id: str
    spec: UserSpec
    revision: int
    create_time: int


def role_of_token(token: Role, user: Role) -> Role:
    """What a token of a user may be now: its own role, or the user's where that has been lowered since."""
    return token if token in TOKEN_ROLES.get(user, frozenset()) else user
