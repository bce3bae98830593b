"""Settings: defaults < file < environment < flags, and errors that say where and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from portway.rpc.configuration import ConfigurationError, check_environment, load, load_list


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Provider:
    kind: str
    api_key: str = field(default="", metadata={"secret": True})
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    listen: str = "127.0.0.1:7700"
    data: Path = Path("data")
    level: Level = Level.LOW
    runs: int = 4
    pause: float = 1.0
    web: bool = True
    name: str | None = None
    providers: Mapping[str, Provider] = field(default_factory=dict)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "portway.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_stand_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "host: {listen: '127.0.0.1:1', runs: 5, name: file, level: high}")
    environment = {"PORTWAY__HOST__RUNS": "6", "PORTWAY__HOST__NAME": "environment", "OTHER": "x"}
    host = load(Host, "host", file=file, environment=environment, flags={"name": "flag", "web": None})
    assert host == Host(listen="127.0.0.1:1", runs=6, name="flag", level=Level.HIGH)


def test_the_environment_reaches_into_mappings_and_lists() -> None:
    environment = {
        "PORTWAY__HOST__PROVIDERS__MINE__KIND": "openai",
        "PORTWAY__HOST__PROVIDERS__MINE__API_KEY": "0123",
        "PORTWAY__HOST__PROVIDERS__MINE__MODELS": "[a, b]",
    }
    assert load(Host, "host", environment=environment).providers == {"mine": Provider("openai", "0123", ("a", "b"))}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hots: {}", "unknown section `hots`; did you mean `host`?"),
        ("host: {lisen: x}", "`host`: unknown key `lisen`; did you mean `listen`?"),
        ("host: {runs: many}", "`host.runs` must be a whole number"),
        ("host: {runs: true}", "`host.runs` must be a whole number"),
        ("host: {level: middle}", "`host.level` must be one of low, high"),
        ("host: {providers: {p: {}}}", "`host.providers.p.kind` is missing"),
        ("host: [1]", "section `host` must hold keys and values"),
        ("host: {", "is not valid YAML"),
        ("- a", "must hold sections"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(Host, "host", file=written(tmp_path, text))
    assert said in str(caught.value)
    assert "portway.yaml" in str(caught.value)


def test_an_error_never_shows_the_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(Host, "host", file=written(tmp_path, "host: {providers: {p: {kind: k, api_key: [sesame]}}}"))
    assert "sesame" not in str(caught.value)
    assert "host.providers.p.api_key" in str(caught.value)


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read .*--config"):
        load(Host, "host", file=tmp_path / "nowhere.yaml")


def test_a_variable_of_an_unknown_section_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="PORTWAY__HOTS__X: unknown section `hots`; did you mean `host`"):
        check_environment({"PORTWAY__HOTS__X": "1"})


def test_a_section_that_is_a_list_gives_typed_items(tmp_path: Path) -> None:
    file = written(tmp_path, "agents: [{kind: a}, {kind: b, models: [m]}]")
    assert load_list(Provider, "agents", file=file) == (Provider("a"), Provider("b", models=("m",)))
    with pytest.raises(ConfigurationError, match=r"`agents\[0\]`: unknown key `knid`; did you mean `kind`"):
        load_list(Provider, "agents", file=written(tmp_path, "agents: [{knid: a}]"))
