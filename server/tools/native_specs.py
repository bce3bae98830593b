"""The native tools as models see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from portway.rpc.errors import InvalidInput
from portway.server.effects.types import Idempotency
from portway.server.tools.types import ToolSpec, ToolType

ALL_TOOLS = "*"

_PATH = {"type": "string", "description": "Absolute, or relative to the workspace."}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How many at most; 200 if left out."}


def _text(description: str) -> Mapping[str, object]:
    return {"type": "string", "description": description}


def _spec(
    name: str, idempotency: Idempotency, description: str, required: tuple[str, ...], **properties: Mapping[str, object]
) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return ToolSpec(name, ToolType.NATIVE, description, schema, idempotency)


SPECS: tuple[ToolSpec, ...] = (
    _spec(
        "exec",
        # The box keeps the result of a command by its effect id and can be asked for it.
        Idempotency.RECONCILABLE,
        "Runs a shell command in the sandbox; returns its exit code, output and errors. Files stay between commands.",
        ("command",),
        command=_text("A line for /bin/sh."),
        working_directory=_text("Absolute path; the workspace if left out."),
        timeout_seconds={"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "description": "30 if left out."},
    ),
    _spec(
        "read",
        Idempotency.READ_ONLY,
        "Reads a text file of the sandbox and returns its lines with their numbers.",
        ("path",),
        path=_PATH,
        first_line={"type": "integer", "minimum": 1, "description": "Where to begin; 1 if left out."},
        lines={"type": "integer", "minimum": 1, "maximum": 5000, "description": "How many; 2000 if left out."},
    ),
    _spec(
        "write",
        Idempotency.IDEMPOTENT,
        "Writes a whole file of the sandbox, replacing what is there and making missing folders.",
        ("path", "content"),
        path=_PATH,
        content=_text("The whole new content."),
    ),
    _spec(
        "edit",
        # Done a second time, the new text itself may match.
        Idempotency.NOT_IDEMPOTENT,
        "Replaces text in a file of the sandbox. The old text must occur exactly once, unless everywhere is set.",
        ("path", "old_text", "new_text"),
        path=_PATH,
        old_text=_text("The text as it is now, with enough around it to be the only one."),
        new_text=_text("What to put there."),
        everywhere={"type": "boolean", "description": "Replace every occurrence."},
    ),
    _spec(
        "glob",
        Idempotency.READ_ONLY,
        "Lists files of the sandbox whose paths match a pattern such as **/*.py.",
        ("pattern",),
        pattern=_text("With *, ?, [...] and **, relative to the directory."),
        directory=_text("Where to begin; the workspace if left out."),
        limit=_LIMIT,
    ),
    _spec(
        "grep",
        Idempotency.READ_ONLY,
        "Finds lines in files of the sandbox that match a regular expression.",
        ("pattern",),
        pattern=_text("A regular expression."),
        path=_text("A file, or a directory to search; the workspace if left out."),
        include=_text("Only files whose names match, such as *.py."),
        ignore_case={"type": "boolean", "description": "Upper and lower case are the same."},
        limit=_LIMIT,
    ),
)
NAMES = tuple(spec.name for spec in SPECS)
_WRITING = frozenset({"write", "edit"})


def chosen(policy_tools: Iterable[str], read_only: bool = False) -> tuple[str, ...]:
    """The names of the native tools that a box policy offers. Errors: `InvalidInput` for a name that is none."""
    names = list(policy_tools)
    for index, name in enumerate(names):
        if name not in (ALL_TOOLS, *NAMES):
            known = ", ".join((ALL_TOOLS, *NAMES))
            raise InvalidInput.field(f"box_policy.tools[{index}]", f"there is no native tool {name!r}; use {known}")
    allowed = NAMES if ALL_TOOLS in names else tuple(name for name in NAMES if name in names)
    return tuple(name for name in allowed if not (read_only and name in _WRITING))
