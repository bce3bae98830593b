"""Secrets in declarations: read where they lie, sent, and never shown."""

from pathlib import Path

import pytest

from portway.clients.declarative.compare import differences
from portway.clients.declarative.documents import MASK, Document, read_documents
from portway.clients.declarative.kinds import KINDS
from portway.clients.declarative.write import document_of
from portway.rpc.errors import InvalidInput
from portway.v1 import agent_pb2, model_pb2, options_pb2

SECRET = "s3cret-value-of-a-key"
PROVIDER = "kind: ModelProvider\nspec:\n  provider_id: vendor\n  kind: openai\n  api_key: {}\n"


def declared(folder: Path, text: str) -> Document:
    file = folder / "portway.yaml"
    file.write_text(text)
    (document,) = read_documents([file])
    return document


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_KEY", SECRET)
    (tmp_path / "key").write_text(SECRET + "\n")
    for reference in ("${env:VENDOR_KEY}", "${file:key}", "file:key"):
        message = declared(tmp_path, PROVIDER.format(f"'{reference}'")).resolved(masked=False)
        assert isinstance(message, model_pb2.ModelProvider)
        assert message.api_key == SECRET


def test_a_missing_secret_is_told_by_its_place_and_left_as_it_was_in_a_change(tmp_path: Path) -> None:
    document = declared(tmp_path, PROVIDER.format("'${env:NOWHERE_TO_BE_FOUND}'"))
    with pytest.raises(InvalidInput, match=r"portway.yaml:5: `api_key` cannot be read: .*NOWHERE_TO_BE_FOUND"):
        document.resolved(masked=False)
    message = document.resolved(masked=True)
    assert isinstance(message, model_pb2.ModelProvider)
    assert message.api_key == MASK


def test_a_secret_that_is_there_is_no_difference_and_none_is_shown(tmp_path: Path) -> None:
    document = declared(tmp_path, PROVIDER.format("'${env:VENDOR_KEY}'"))
    there = model_pb2.ModelProvider(provider_id="vendor", kind="openai", has_api_key=True, revision=7)
    assert differences(document, there) == []
    missing = model_pb2.ModelProvider(provider_id="vendor", kind="openai")
    assert differences(document, missing) == ["api_key: (none) -> (secret)"]
    literal = declared(tmp_path, PROVIDER.format(SECRET))
    assert differences(literal, missing) == ["api_key: (none) -> (secret)"]
    agent = agent_pb2.Agent(agent_id="a", name="a")
    agent.config.update({"api_key": MASK, "mood": "calm"})
    text = "kind: Agent\nagent_id: a\nname: a\nconfig: {api_key: '${env:K}', mood: bold}\n"
    assert differences(declared(tmp_path, text), agent) == ["config.mood: 'calm' -> 'bold'"]


def test_an_export_has_a_variable_where_a_secret_is_and_reads_back(tmp_path: Path) -> None:
    there = model_pb2.ModelProvider(provider_id="my-vendor", kind="openai", has_api_key=True, revision=7)
    text = document_of(KINDS["ModelProvider"], there)
    assert "api_key: ${env:MODELPROVIDER_MY_VENDOR_API_KEY}" in text
    assert "revision" not in text
    document = declared(tmp_path, text)
    assert document.id == "my-vendor"
    assert differences(document, there) == []


def test_every_secret_of_a_kind_is_known_from_the_contract() -> None:
    for kind in KINDS.values():
        marked = {
            field.name for field in kind.message.DESCRIPTOR.fields if field.GetOptions().Extensions[options_pb2.secret]
        }
        assert set(kind.secrets()) == marked
        for name in kind.key:
            assert name in kind.message.DESCRIPTOR.fields_by_name


def test_a_wrong_value_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        declared(tmp_path, f"kind: Agent\nagent_id: a\nconfig: {SECRET}\n")
    assert SECRET not in str(refused.value)
