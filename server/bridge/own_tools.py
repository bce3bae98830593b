"""The bridge's own tools: their names, what models are told of them, and the schemas of their arguments."""

from portway.server.bridge import assets
from portway.server.effects.types import Idempotency
from portway.server.tools.types import JsonObject, ToolSpec, ToolType

EVENT = "event"
HISTORY = "history_page"
KNOWLEDGE = "knowledge_retrieve"
ASSETS = "list_assets"
DETAIL = "tool_detail"
CALL = "tool_call"
_CURSOR = {"type": "string", "maxLength": 1024}


def _tool(name: str, description: str, properties: JsonObject, required: tuple[str, ...] = ()) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    once = Idempotency.NOT_IDEMPOTENT if name == CALL else Idempotency.READ_ONLY
    return ToolSpec(name, ToolType.NATIVE, description, schema, once)


OWN_TOOLS = (
    _tool(
        EVENT,
        "What this run is about: the event that began it, who sent it, what was said, and where the answer goes. "
        "With `event_id`, another event of the same conversation.",
        {"event_id": {"type": "string", "maxLength": 128}},
    ),
    _tool(
        HISTORY,
        "A page of this conversation's earlier messages, in order of time. Backward (the default) gives the newest "
        "ones; `before` with the `before_cursor` of a page gives the ones before it.",
        {
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
            "direction": {"enum": ["backward", "forward"], "default": "backward"},
            "before": {**_CURSOR, "description": "Only before this cursor."},
            "after": {**_CURSOR, "description": "Only after this cursor."},
            "include_artifacts": {"type": "boolean", "default": False},
        },
    ),
    _tool(
        KNOWLEDGE,
        "Passages of the knowledge bases of this run that fit a question, best first.",
        {
            "query": {"type": "string", "minLength": 1, "maxLength": 16_000},
            "knowledge_base_ids": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 256},
                "minItems": 1,
                "maxItems": 20,
                "description": "Which of them; all of the run's if left out.",
            },
            "top_k": {"type": "integer", "minimum": 1, "maximum": 100, "default": 5},
            "filters": {"type": "object"},
        },
        ("query",),
    ),
    _tool(
        ASSETS,
        "What this run was given: tools, models, knowledge bases, skills, files, artifacts and platform actions. "
        "Without `kind`, the first of each.",
        {
            "kind": {"enum": list(assets.KINDS)},
            "offset": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": assets.MAX_PAGE, "default": assets.PAGE},
        },
    ),
    _tool(
        DETAIL,
        "One of the run's tools with the JSON schema of its arguments. `list_assets` has their names.",
        {"name": {"type": "string", "minLength": 1, "maxLength": 256}},
        ("name",),
    ),
    _tool(
        CALL,
        "Calls one of the run's tools. Its arguments are those of the schema that `tool_detail` shows. A call that "
        "needs a person's approval waits for it.",
        {
            "name": {"type": "string", "minLength": 1, "maxLength": 256},
            "arguments": {"type": "object"},
            "call_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
                "description": "Of your own, unique in the run: the same call again gives the first one's result.",
            },
        },
        ("name",),
    ),
)
NAMES = tuple(tool.name for tool in OWN_TOOLS)
