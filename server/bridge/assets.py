"""What a run was given, for the tool `list_assets`: names and descriptions, never a secret."""

from collections.abc import Mapping, Sequence
from typing import Any

from portway.server.bridge.content import ARTIFACTS, FILES, plain
from portway.server.runner_calls.scope import RunScope
from portway.v1 import content_pb2, run_context_pb2

FIRST = 20
PAGE = 50
MAX_PAGE = 200
_DESCRIPTION = 300
KINDS = ("tools", "models", "knowledge_bases", "skills", "files", "artifacts", "platform_actions")


def assets(run: RunScope, shown: Mapping[str, str], kind: str, offset: int, limit: int) -> dict[str, Any]:
    """All kinds, the first of each; or a page of one kind. `shown`: MCP names of tools by their real ones."""
    if kind:
        every = _of_kind(run, kind, shown)
        page = every[offset : offset + limit]
        return {"kind": kind, "items": page, "total": len(every), "has_more": offset + len(page) < len(every)}
    found: dict[str, Any] = {}
    for one in KINDS:
        every = _of_kind(run, one, shown)
        found[one] = {"items": every[:FIRST], "total": len(every), "has_more": len(every) > FIRST}
    resources = run.context.resources
    found["box"] = resources.box
    areas = {"plugin": resources.storage_plugin, "workspace": resources.storage_workspace}
    found["storage"] = [name for name, may in {**areas, "agent": resources.storage_binding}.items() if may]
    return found


def _of_kind(run: RunScope, kind: str, shown: Mapping[str, str]) -> Sequence[Any]:
    resources = run.context.resources
    match kind:
        case "tools":
            return [_tool(one, shown) for one in resources.tools]
        case "files":
            return [_file(one, FILES) for one in resources.files]
        case "artifacts":
            return [_file(one, ARTIFACTS) for one in run.context.input.attachments]
        case "platform_actions":
            return list(resources.platform_actions)
        case _:
            return [plain(one) for one in getattr(resources, kind)]


def _tool(tool: run_context_pb2.ToolResource, shown: Mapping[str, str]) -> dict[str, Any]:
    told = {"name": tool.name, "type": tool.type, "description": tool.description[:_DESCRIPTION]}
    return told | ({"listed_as": shown[tool.name]} if tool.name in shown else {})


def _file(ref: content_pb2.ArtifactRef, place: str) -> dict[str, Any]:
    return plain(ref) | {"uri": f"{place}{ref.artifact_id}"}
