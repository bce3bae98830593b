"""What a program is told of its run: `agent-context.json`, and a summary that is easy to read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from portway.runtime.harness.attached import PlacedFile
from portway.runtime.sdk import RunContext
from portway.runtime.sdk.types.convert import write
from portway.v1 import run_context_pb2

SCHEMA = "portway.agent-context"
VERSION = 1
CONTEXT_FILE = "agent-context.json"
SUMMARY_FILE = "agent-context.md"
_PARTS = ("event", "actor", "subject", "input", "delivery", "resources", "context", "state", "runtime")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the place adds: where the files of the message are, and where files for people go."""

    files: Sequence[PlacedFile] = ()
    outbox: str = ""


def context_document(ctx: RunContext, surroundings: Surroundings | None = None) -> dict[str, Any]:
    """The run as JSON: names as in the contract's `RunContext`. No configuration and no token is in it.

    Attachments of the input also have `path` or `left_out`, and `runtime` has `outbox`, where there are such.
    """
    surroundings = surroundings or Surroundings()
    message = run_context_pb2.RunContext()
    write(ctx, message)
    whole = MessageToDict(message, preserving_proto_field_name=True)
    runtime = whole.get("runtime", {})
    # Where the program finds models and the bridge is told as it reaches them from where it runs.
    for name in ("model_gateway_url", "bridge_url"):
        runtime.pop(name, None)
    if surroundings.outbox:
        whole.setdefault("runtime", runtime)["outbox"] = surroundings.outbox
    placed = {one.artifact.artifact_id: one for one in surroundings.files}
    for attachment in whole.get("input", {}).get("attachments", ()):
        if one := placed.get(attachment.get("artifact_id", "")):
            attachment |= {"path": one.path} if one.path else {"left_out": one.left_out}
    document = {"schema": SCHEMA, "schema_version": VERSION, "run_id": ctx.run_id}
    return document | {name: whole.get(name, {}) for name in _PARTS}


def context_files(ctx: RunContext, folder: str, surroundings: Surroundings) -> dict[str, bytes]:
    """Both files by their paths."""
    document = json.dumps(context_document(ctx, surroundings), ensure_ascii=False, indent=2, sort_keys=True)
    told = summary(ctx, surroundings)
    return {
        f"{folder}/{CONTEXT_FILE}": document.encode(),
        f"{folder}/{SUMMARY_FILE}": told.encode(),
    }


def summary(ctx: RunContext, surroundings: Surroundings) -> str:
    """Markdown of at most some thousand characters."""
    who = ctx.actor.name or ctx.actor.id or "somebody unknown"
    surface = f" on {ctx.delivery.surface}" if ctx.delivery.surface else ""
    lines = [
        f"# Run {ctx.run_id}",
        f"- Event: {ctx.event.type or 'unknown'} from {who}{surface}",
        f"- Conversation: {ctx.conversation.conversation_id or 'none'}"
        + (", with earlier messages" if ctx.context.has_history_before else ""),
    ]
    if ctx.runtime.deadline is not None:
        lines.append(f"- To be done by: {ctx.runtime.deadline.isoformat(timespec='seconds')}")
    for title, names in _resources(ctx):
        if names:
            lines.append(f"- {title}: {', '.join(names[:_SHOWN])}")
    lines += [f"- File of the message: {one.path}" for one in surroundings.files if one.path]
    lines += [f"- Not here: {one.artifact.name} ({one.left_out})" for one in surroundings.files if not one.path]
    if surroundings.outbox:
        lines.append(f"- Files for the person go into: {surroundings.outbox}")
    lines.append(f"\nEverything else is in `{CONTEXT_FILE}` beside this file (schema {SCHEMA}, version {VERSION}).")
    return "\n".join(lines) + "\n"


def _resources(ctx: RunContext) -> list[tuple[str, list[str]]]:
    resources = ctx.resources
    return [
        ("Models", [one.model_id for one in resources.models]),
        ("Tools", [one.name for one in resources.tools]),
        ("Knowledge bases", [one.name or one.knowledge_base_id for one in resources.knowledge_bases]),
        ("Skills", [one.name for one in resources.skills]),
        ("Files of the agent", [one.name or one.artifact_id for one in resources.files]),
    ]
