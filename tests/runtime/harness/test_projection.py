"""What a program is told of its run keeps to the schema that is published, and to nothing less than the contract."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf.descriptor import Descriptor

import portway.runtime.harness.project as project
from portway.runtime.harness.attached import PlacedFile
from portway.runtime.harness.project import Surroundings, context_document, context_files
from portway.runtime.sdk import ArtifactRef, RunContext, RunInput, StateValue
from portway.runtime.sdk.types import context as contexts
from portway.runtime.sdk.types import resources
from portway.v1 import run_context_pb2

SCHEMA: dict[str, Any] = json.loads(
    (Path(project.__file__).parent / "data" / "agent-context.schema.json").read_text(encoding="utf-8")
)
# Where the program finds these is told otherwise, as it reaches them.
NOT_TOLD = {"model_gateway_url", "bridge_url"}
PARTS = ("event", "actor", "subject", "input", "delivery", "resources", "context", "state", "runtime")
NOW = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


def full() -> RunContext:
    files = (ArtifactRef("art_1", "image/png", "cat.png", 5), ArtifactRef("art_2", "text/plain", "big.txt", 1 << 40))
    return RunContext(
        run_id="run_1",
        event=contexts.EventContext("evt_1", "message.received", NOW, "api", data={"a": [1, None]}),
        actor=contexts.Actor("user", "u1", "Ann", {"vip": True}),
        conversation=contexts.ConversationContext("cnv_1"),
        input=RunInput("hello \N{SMILING FACE WITH OPEN MOUTH}", attachments=files),
        resources=resources.RunResources(models=(resources.ModelResource("m1"),), files=files[:1], box=True),
        context=contexts.HistoryContext("cnv_1", event_sequence=7, has_history_before=True),
        state=contexts.StateSnapshot(conversation={"key": StateValue({"deep": [1]}, 3)}),
        runtime=contexts.RuntimeContext("portway", deadline=NOW, model_gateway_url="http://gateway", locale="en"),
        config={"api_key": "a secret of the configuration"},
    )


def check(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)


def test_an_empty_and_a_full_run_keep_to_the_schema() -> None:
    ctx = full()
    placed = (
        PlacedFile(ctx.input.attachments[0], "/w/files/cat.png"),
        PlacedFile(ctx.input.attachments[1], "", "large"),
    )
    document = json.loads(json.dumps(context_document(ctx, Surroundings(placed, "/w/outbox"))))
    check(document)
    assert [one.get("path", one.get("left_out")) for one in document["input"]["attachments"]] == [
        "/w/files/cat.png",
        "large",
    ]
    assert document["runtime"]["outbox"] == "/w/outbox"
    assert "secret" not in json.dumps(document) and "gateway" not in json.dumps(document)
    check(json.loads(json.dumps(context_document(RunContext(run_id="run_2")))))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("schema_version", 2),
        ("schema", "other"),
        ("run_id", ""),
        ("event", []),
        ("extra", 1),
        ("runtime", {"outbox": "x"}),
    ],
)
def test_the_schema_refuses_what_is_none(part: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(context_document(full()) | {part: value})


def test_the_schema_knows_every_field_of_the_contract() -> None:
    fields: Descriptor = run_context_pb2.RunContext.DESCRIPTOR
    for part in PARTS:
        known = set(SCHEMA["properties"][part]["properties"]) - {"outbox"}
        message = fields.fields_by_name[part].message_type
        assert message is not None
        in_contract = {one.name for one in message.fields} - NOT_TOLD
        assert known == in_contract, part
    assert set(SCHEMA["required"]) == {"schema", "schema_version", "run_id", *PARTS}


def test_the_summary_is_short_and_names_what_matters() -> None:
    ctx = full()
    placed = (
        PlacedFile(ctx.input.attachments[0], "/w/files/cat.png"),
        PlacedFile(ctx.input.attachments[1], "", "large"),
    )
    files = context_files(ctx, "/w", Surroundings(placed, "/w/outbox"))
    text = files["/w/agent-context.md"].decode()
    for named in (
        "run_1",
        "message.received from Ann",
        "cnv_1",
        "/w/files/cat.png",
        "big.txt (large)",
        "/w/outbox",
        "m1",
    ):
        assert named in text, named
    assert len(text) < 2_000
