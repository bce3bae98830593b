"""What is wrong with an MCP server as somebody wrote it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from portway.rpc.errors import FieldViolation, NotPermitted
from portway.server.agents.config_secrets import MASK
from portway.server.outbound.policy import OutboundPolicy
from portway.server.tools.mcp.types import McpSpec, Transport
from portway.server.tools.mcp.wire import Draft

MAX_CALL_SECONDS = 3600.0
NOT_ALLOWED = "{!r} is not among the programs that this host allows (`host.mcp_commands`)"
MAX_SECRET_BYTES = 16 * 1024
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}\Z")
# What the transport itself says on each request.
_OWN_HEADERS = frozenset({"host", "content-length", "content-type", "accept", "connection", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class McpRules:
    """What servers may be: where those over HTTP are, and which programs those in the box, by `fnmatch` patterns."""

    outbound: OutboundPolicy
    commands: tuple[str, ...] = ("*",)

    def allows(self, command: tuple[str, ...]) -> bool:
        return not command or any(fnmatchcase(command[0], pattern) for pattern in self.commands)


def violations_of(draft: Draft, rules: McpRules) -> list[FieldViolation]:
    """Each with its path in the request."""
    found = [*_place(draft.spec, rules), *_names(draft.spec), *_values(draft)]
    if not _ID.match(draft.server_id):
        what = "is required: lower-case letters, digits, - and _, at most 63, a letter or digit first"
        found.insert(0, ("server_id", what))
    if not 0 < draft.spec.call_seconds <= MAX_CALL_SECONDS:
        found.append(("call_timeout", f"must be more than 0 and at most {MAX_CALL_SECONDS:g} s"))
    return [FieldViolation(f"mcp_server.{field}", what) for field, what in found]


def _place(spec: McpSpec, rules: McpRules) -> Iterator[tuple[str, str]]:
    if spec.transport is Transport.STDIO:
        if not spec.command or not spec.command[0]:
            yield "command", "is required with STDIO: the program and its arguments"
        for field, command in (("command", spec.command), ("install", spec.install)):
            if not rules.allows(command):
                yield field, NOT_ALLOWED.format(command[0][:200])
        if spec.url or spec.headers:
            yield "url" if spec.url else "headers", "has no meaning with STDIO; remove it"
        return
    boxed = (spec.command, spec.env, spec.secret_env, spec.mounts, spec.box_profile, spec.box_session, spec.install)
    if any(boxed):
        names = "command, env, mounts, box_profile, box_session and install"
        yield "command", f"{names} have no meaning without STDIO; remove them"
    try:
        rules.outbound.check(spec.url)
    except NotPermitted as error:
        yield "url", error.message


def _names(spec: McpSpec) -> Iterator[tuple[str, str]]:
    for name in spec.headers:
        if not _HEADER.match(name) or name.lower() in _OWN_HEADERS:
            yield f"headers.{name[:64]}", "is no name of a header that may be set"
    for name in (*spec.env, *spec.secret_env):
        if not _VARIABLE.match(name):
            yield f"env.{name[:64]}", "is no name of an environment variable"


def _values(draft: Draft) -> Iterator[tuple[str, str]]:
    for place, value in draft.values.items():
        if value != MASK and (len(value.encode()) > MAX_SECRET_BYTES or any(ord(one) < 32 for one in value)):
            yield field_of(place), f"must have at most {MAX_SECRET_BYTES} bytes and no control characters"


def field_of(place: str) -> str:
    """The path of a secret in the request."""
    kind, _, name = place.partition("/")
    return f"{'headers' if kind == 'header' else kind}.{name[:64]}"
