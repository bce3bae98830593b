"""The name of the sandbox that an event's runs work in, by its agent's template.

`WORKSPACE:AGENT:` stands before every name, so no template can reach another agent's sandbox. Letters and digits of a
value stay as they are and each other byte becomes `.xx`, so different values never make one name. What is too long for
the box becomes a digest.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput, WrongState

DEFAULT_TEMPLATE = "{launcher_type}_{launcher_id}"
VARIABLES = ("launcher_type", "launcher_id", "sender_id", "conversation_id", "thread_id", "event_id")

_FIELD = "box_policy.session_template"
_LITERAL = re.compile(r"[A-Za-z0-9_-]*\Z")
_PLAIN = frozenset(string.ascii_letters.encode() + string.digits.encode())
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a template can name; '' where the event has no such thing.

    An event without a launcher (a call of the API) is launched by its own conversation.
    """

    launcher_type: str = ""
    launcher_id: str = ""
    sender_id: str = ""
    conversation_id: str = ""
    thread_id: str = ""
    event_id: str = ""

    def values(self) -> Mapping[str, str]:
        """The variables by name."""
        found = {name: getattr(self, name) for name in VARIABLES}
        if not self.launcher_type and not self.launcher_id and self.conversation_id:
            found |= {"launcher_type": "conversation", "launcher_id": self.conversation_id}
        return found


def check_template(template: str) -> None:
    """Refuses a template that cannot make good names; for when an agent is saved. '' is the default."""
    pieces = list(_pieces(template))
    if not any(variable for _, variable in pieces):
        raise InvalidInput.field(_FIELD, f"it names no variable; use some of {_listed()}")
    for (literal, variable), first in zip(pieces, (True, *[False] * len(pieces)), strict=False):
        if variable and not first and not set(literal) & set("_-"):
            raise InvalidInput.field(_FIELD, "put _ or - between two variables, so that their values stay apart")


def session_name(workspace_id: str, agent_id: str, template: str, facts: SessionFacts) -> str:
    """The name. Errors: `WrongState` when the event lacks a variable of the template, `InvalidInput` (template)."""
    check_template(template)
    values = facts.values()
    parts: list[str] = []
    for literal, variable in _pieces(template):
        if variable and not values[variable]:
            raise WrongState(
                f"agent {agent_id!r} names its sandbox by {{{variable}}}, which this event does not have, so no tool "
                f"of the box can be used; change box_policy.session_template of the agent"
            )
        parts += [literal, _escaped(values[variable]) if variable else ""]
    owner = f"{_escaped(workspace_id)}:{_escaped(agent_id)}:"
    name = owner + "".join(parts)
    if len(name) <= _MAX_NAME and not name.startswith("."):
        return name
    # The box takes 200 characters, the first a letter or digit. `.h` never begins an escaped byte, so a digest equals
    # no other name.
    return f"digest:.h{hashlib.sha256(name.encode()).hexdigest()}"


def owner_prefix(workspace_id: str) -> str:
    """What the names of all its agents' sandboxes begin with, and no other workspace's; but those that are digests."""
    return f"{_escaped(workspace_id)}:"


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Literal text and the variable after it ('' at the end)."""
    try:
        parsed = list(string.Formatter().parse(template or DEFAULT_TEMPLATE))
    except ValueError as error:
        raise InvalidInput.field(_FIELD, f"its braces do not match ({error})") from error
    for literal, variable, spec, conversion in parsed:
        if not _LITERAL.match(literal):
            raise InvalidInput.field(_FIELD, "outside of variables it may hold letters, digits, _ and - only")
        if variable is not None and (variable not in VARIABLES or spec or conversion):
            raise InvalidInput.field(_FIELD, f"there is no variable {{{variable}}}; use some of {_listed()}")
        yield literal, variable or ""


def _escaped(value: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f".{byte:02x}" for byte in value.encode())


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in VARIABLES)
