"""Access tokens. Only the hash of a secret is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """`token_id` is the part of the token that names it; `secret_hash` the SHA-256 of the other part.

    `role` as in the contract; `subject` who uses it; `user_id` the person whose it is, if it is one's; times in
    microseconds, `expire_time` 0 for never.
    """

    workspace_id: str
    token_id: str
    kind: str
    role: str
    subject: str
    secret_hash: bytes
    name: str = ""
    expire_time: int = 0
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, kept after its end so that its user can be told the right thing.

    After a rotation `previous_hash` works too, until `previous_expire_time`.
    """

    workspace_id: str
    token_id: str
    kind: str
    role: str
    subject: str
    secret_hash: bytes
    previous_hash: bytes
    previous_expire_time: int
    name: str
    expire_time: int
    create_time: int
    revoke_time: int
    last_use_time: int
    user_id: str = ""
