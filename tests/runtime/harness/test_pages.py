"""Each harness's page says of its configuration what the plugin says of it, and what its reader holds it to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from portway.runtime.harness.settings import read_settings, whole
from portway.runtime.sdk import RunContext, RunFailure

HERE = Path(__file__).parents[3]
HARNESSES = ("claude-code", "codex", "acp", "exec", "session-bridge")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
# Read where the program is started; the contract suite goes there.
READ_LATER = {"permission_mode", "sandbox", "permissions", "preset", "input", "models", "model", "instructions"}
READ_LATER |= {"persona", "max_turns", "allowed_tools", "disallowed_tools"}
CODES = re.compile(r"`(harness\.\w+)`")


def page(harness: str) -> str:
    return (HERE / "docs" / f"harness-{harness}.md").read_text(encoding="utf-8")


def rows(harness: str) -> list[tuple[str, ...]]:
    return ROW.findall(page(harness).partition("## Configuration")[2].partition("\n## ")[0])


def schema(harness: str) -> list[dict[str, Any]]:
    folder = HERE / "runtime" / "official" / harness.replace("-", "_") / "components"
    fields: list[dict[str, Any]] = yaml.safe_load((folder / "default.yaml").read_text("utf-8"))["config_schema"]
    return fields


def shown_default(field: dict[str, Any]) -> str:
    if field.get("required"):
        return "required"
    default = field.get("default")
    return "—" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize("harness", HARNESSES)
def test_the_table_has_every_field_as_the_plugin_describes_it(harness: str) -> None:
    told = [(name, kind, default, meaning) for name, kind, default, _, meaning in rows(harness)]
    assert told == [
        (field["name"], field["type"], shown_default(field), field["description"]["en"]) for field in schema(harness)
    ]
    assert all(field["description"]["zh-Hans"] and field["label"]["zh-Hans"] for field in schema(harness))


def reads(name: str, value: object) -> bool:
    """Whether it is taken; what is refused is named, with what to do."""
    ctx = RunContext(config={name: value})
    try:
        read_settings(ctx, ("program",))
    except RunFailure as failure:
        assert failure.error.code == "harness.config" and f"config.{name} " in failure.error.message
        return False
    return True


@pytest.mark.parametrize("harness", ["claude-code", "codex", "acp", "exec"])
def test_the_limits_of_the_table_are_those_that_are_held(harness: str) -> None:
    choices = {field["name"]: [one["value"] for one in field.get("options", ())] for field in schema(harness)}
    for name, kind, _, limits, _ in rows(harness):
        if kind == "select":
            assert limits == ", ".join(choices[name])
        if name in READ_LATER:
            continue
        match kind:
            case "number":
                found = re.fullmatch(r"above 0, at most ([\d,]+)", limits)
                assert found is not None, limits
                most = float(found[1].replace(",", ""))
                assert reads(name, most) and reads(name, 0.1)
                wrongs: tuple[object, ...] = (0, -1, most + 1, "1", True, float("nan"))
                assert not any(reads(name, wrong) for wrong in wrongs)
            case "boolean":
                assert reads(name, False) and not reads(name, "true") and not reads(name, 1)
            case "select":
                assert all(reads(name, one) for one in choices[name]) and not reads(name, "elsewhere")
            case "text" if limits == "absolute":
                assert reads(name, "/srv/a b") and not any(reads(name, one) for one in ("a/b", 7, "/a\0b"))
            case "textarea" if "JSON list" in limits:
                assert reads(name, "a\nb") and reads(name, '["a", "b"]')
                assert not any(reads(name, one) for one in ("[1]", "[", '["a\\u0000"]', ["a"]))
            case "textarea":
                assert limits == "`NAME=VALUE`, one a line"
                assert reads(name, "A=b=c\n\nD_1=") and not any(
                    reads(name, one) for one in ("A", "1A=b", "PORTWAY_RUN_TOKEN=x", "A B=c")
                )
            case _:
                raise AssertionError(f"{name}: nobody holds {kind} to {limits}")


@pytest.mark.parametrize(("value", "is_taken"), [(1, True), (1000, True), (2.0, True), (0.5, False), (1001, False)])
def test_turns_are_whole(value: object, is_taken: bool) -> None:
    try:
        whole({"max_turns": value}, "max_turns", 1, 1000)
    except RunFailure as failure:
        assert not is_taken and "config.max_turns" in failure.error.message
    else:
        assert is_taken


def test_every_code_that_is_raised_is_on_the_page_of_all() -> None:
    folder = HERE / "runtime" / "harness" / "failures.py"
    raised = set(re.findall(r'"(harness\.\w+)"', folder.read_text(encoding="utf-8")))
    table = (HERE / "docs" / "harnesses.md").read_text(encoding="utf-8").partition("## How it ends")[2]
    assert raised == set(CODES.findall(table))
    for harness in HARNESSES:
        assert set(CODES.findall(page(harness))) <= raised
        assert "```yaml" in page(harness)
