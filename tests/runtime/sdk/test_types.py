"""The SDK's dataclasses say what the contract's messages say, and nothing is lost between the two."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message

from portway.runtime import sdk
from portway.runtime.sdk.types import content, context, interactions, models, pulled, resources, results, usage
from portway.runtime.sdk.types.convert import read, read_json, write
from portway.v1 import (
    content_pb2,
    interaction_pb2,
    run_context_pb2,
    run_model_pb2,
    run_pull_pb2,
    run_result_pb2,
    transcript_pb2,
    usage_pb2,
)

MIRRORED: list[tuple[type, type[Message]]] = [
    *((getattr(context, name), getattr(run_context_pb2, name)) for name in (
        "Trigger EventContext ConversationContext Actor Subject RunInput SurfaceCapabilities DeliveryContext "
        "HistoryContext StateSnapshot StaticRef RuntimeContext AdapterContext RunContext"
    ).split()),
    *((getattr(resources, name), getattr(run_context_pb2, name)) for name in (
        "ModelResource ToolResource KnowledgeBaseResource SkillResource RunResources"
    ).split()),
    *((getattr(content, name), getattr(content_pb2, name)) for name in (
        "Provenance ArtifactRef TextPart MentionPart QuotePart LocationPart CardPart Message"
    ).split()),
    *((media, content_pb2.MediaPart) for media in (sdk.ImagePart, sdk.AudioPart, sdk.VideoPart, sdk.FilePart)),
    *((getattr(interactions, name), getattr(interaction_pb2, name)) for name in (
        "InteractionOption InteractionField InteractionAction Interaction InteractionAnswer"
    ).split()),
    (interactions.PlatformAction, run_result_pb2.PlatformAction),
    *((getattr(models, name), getattr(run_model_pb2, name)) for name in (
        "ModelToolCall ModelToolResult ModelMessage ModelTool ModelRequest ModelToolCallDelta ModelFallback "
        "ModelAnswer RerankScore Embedding"
    ).split()),
    (models.ReasoningBlock, run_model_pb2.ModelReasoning),
    (models.RerankAnswer, run_model_pb2.RerankDocumentsResponse),
    (models.EmbedAnswer, run_model_pb2.EmbedTextsResponse),
    (models.TokenCount, run_model_pb2.CountTokensResponse),
    (results.RunError, run_result_pb2.RunError),
    (results.ToolCallStarted, run_result_pb2.ToolCallStarted),
    (results.ToolCallCompleted, run_result_pb2.ToolCallCompleted),
    (results.Progress, run_result_pb2.Progress),
    (usage.Usage, usage_pb2.Usage),
    (usage.Budget, usage_pb2.Budget),
    (pulled.TranscriptItem, transcript_pb2.TranscriptItem),
    (pulled.HistoryPage, run_pull_pb2.PageHistoryResponse),
    (pulled.EventDetail, run_pull_pb2.RunnerServiceGetEventResponse),
    (pulled.EventPage, run_pull_pb2.PageEventsResponse),
    (pulled.ToolResult, run_pull_pb2.ToolResult),
    (pulled.KnowledgeHit, run_pull_pb2.KnowledgeHit),
    (pulled.StorageEntry, run_pull_pb2.StorageEntry),
    (pulled.PromptFragment, run_pull_pb2.PromptFragment),
    (pulled.SteeringMessage, run_pull_pb2.SteeringMessage),
    (pulled.ActionReceipt, run_pull_pb2.RequestActionResponse),
    (pulled.WantedApproval, run_pull_pb2.RequestApprovalRequest),
    (pulled.ApprovalReceipt, run_pull_pb2.RequestApprovalResponse),
    (pulled.InteractionReceipt, run_pull_pb2.RequestInteractionResponse),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "message"), MIRRORED, ids=[cls.__name__ for cls, _ in MIRRORED])
def test_a_dataclass_has_the_fields_of_its_message(cls: type, message: type[Message]) -> None:
    mine = {field.name for field in dataclasses.fields(cls)}
    assert mine == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(("cls", "message"), MIRRORED, ids=[cls.__name__ for cls, _ in MIRRORED])
def test_an_empty_message_becomes_the_defaults_and_back(cls: type, message: type[Message]) -> None:
    value: Any = read(cls, message())
    assert read(cls, write(value, message())) == value


def test_a_full_context_survives_the_way_there_and_back() -> None:
    now = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
    full = context.RunContext(
        run_id="run_1",
        trigger=context.Trigger("message.received", context.TriggerSource.API, now),
        actor=context.Actor("user", "u1", "Ann", {"vip": True, "tags": ["a", 1, 2.5, None]}),
        input=context.RunInput(
            "hello",
            (
                sdk.text_part("hello"),
                sdk.Part(
                    sdk.ImagePart(sdk.ArtifactRef("art_1", "image/png", "a.png", 5), "a picture"),
                    sdk.Provenance(sdk.SourceKind.USER, "u1"),
                ),
                sdk.Part(sdk.CardPart("title", "text", {"x": 1})),
            ),
            (sdk.ArtifactRef("art_2", expire_time=now),),
            sdk.InteractionAnswer("int_1", values={"ok": True}),
        ),
        state=context.StateSnapshot(conversation={"key": context.StateValue({"deep": [1]}, 3)}),
        runtime=context.RuntimeContext(deadline=now, budget=sdk.Budget(tokens=5, time=timedelta(seconds=3))),
        config={"depth": 3, "nested": {"list": [1, "two"]}},
        permissions=context.Permissions(frozenset({"models_stream", "state"}), platform_actions=("message.recall",)),
        attempt=2,
    )
    assert read(context.RunContext, write(full, run_context_pb2.RunContext())) == full


def test_whole_numbers_of_json_stay_whole() -> None:
    message = run_context_pb2.RunContext()
    message.config.update({"count": 3, "ratio": 0.5, "big": 2**60})
    config = read_json(message.config)
    assert config == {"count": 3, "ratio": 0.5, "big": float(2**60)}
    assert isinstance(config["count"], int)


def test_what_a_later_version_adds_is_not_an_error() -> None:
    part = content_pb2.ContentPart()
    part.ParseFromString(b"\xa2\x06\x03abc")
    assert content.read_part(part) == sdk.Part(None)
    item = transcript_pb2.TranscriptItem()
    item.role = 99  # type: ignore[assignment]
    assert read(pulled.TranscriptItem, item).role is sdk.MessageRole.UNSPECIFIED


def test_a_zero_that_was_set_is_not_an_unknown() -> None:
    message = usage_pb2.Usage(input_tokens=0)
    value = read(usage.Usage, message)
    assert (value.input_tokens, value.output_tokens) == (0, None)
    back: Any = write(value, usage_pb2.Usage())
    assert back.HasField("input_tokens")
    assert not back.HasField("output_tokens")


def test_usage_adds_up_and_unknown_stays_unknown() -> None:
    total = usage.add_usage(
        [usage.Usage(input_tokens=3, model_id="a"), usage.Usage(input_tokens=4, output_tokens=1, model_id="b")]
    )
    assert (total.input_tokens, total.output_tokens, total.cached_tokens, total.model_id) == (7, 1, None, "b")
