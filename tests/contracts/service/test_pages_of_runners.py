"""Each runner's page says of its configuration what the plugin says of it, and what its reader holds it to."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from portway.runtime.sdk import RunFailure
from tests.contracts.service.conftest import VENDORS
from tests.fakes.services.api import KEY

HERE = Path(__file__).parents[3]
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
RANGE = re.compile(r"([\d.,]+) to ([\d.,]+)")
# The fields that only one way of proving who one is reads.
AUTH = {"username": "basic", "password": "basic", "jwt_secret": "jwt", "jwt_algorithm": "jwt"}


def rows(runner: str) -> list[tuple[str, ...]]:
    page = (HERE / "docs" / f"runner-{runner}.md").read_text("utf-8")
    return ROW.findall(page.partition("## Configuration")[2].partition("\n## ")[0])


def schema(runner: str) -> list[dict[str, Any]]:
    folder = HERE / "runtime" / "official" / runner / "components"
    fields: list[dict[str, Any]] = yaml.safe_load((folder / "default.yaml").read_text("utf-8"))["config_schema"]
    return fields


def shown_default(field: dict[str, Any]) -> str:
    if field.get("required"):
        return "required"
    default = field.get("default")
    return "—" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


def reads(runner: str, name: str, value: object) -> bool:
    """Whether the runner takes this value; what it refuses it names."""
    vendor = VENDORS[runner]
    config = {vendor.url_field: "http://127.0.0.1:1", vendor.key_field: KEY, **vendor.config}
    if name in AUTH:
        config |= {"auth": AUTH[name], "username": "someone", "password": KEY, "jwt_secret": KEY}
    settings = importlib.import_module(f"portway.runtime.official.{runner}.settings")
    try:
        settings.read_settings(config | {name: value})
    except RunFailure as failure:
        assert failure.error.code == "service.misconfigured"
        assert f"config.{name} " in failure.error.message
        return False
    return True


@pytest.mark.parametrize("runner", VENDORS)
def test_the_table_has_every_field_as_the_plugin_describes_it(runner: str) -> None:
    told = [(name, kind, default, meaning) for name, kind, default, _, meaning in rows(runner)]
    assert told == [
        (field["name"], field["type"], shown_default(field), field["description"]["en"]) for field in schema(runner)
    ]


@pytest.mark.parametrize("runner", VENDORS)
def test_the_limits_of_the_table_are_those_that_are_held(runner: str) -> None:
    choices = {field["name"]: [one["value"] for one in field.get("options", ())] for field in schema(runner)}
    for name, kind, default, limits, _ in rows(runner):
        if default == "required":
            assert not reads(runner, name, ""), name
        match kind:
            case "number":
                least, most = (float(one.replace(",", "")) for one in RANGE.fullmatch(limits).groups())  # type: ignore[union-attr]
                assert reads(runner, name, least) and reads(runner, name, most), name
                assert not reads(runner, name, most + 1) and not reads(runner, name, least - 0.01), name
                assert not any(reads(runner, name, wrong) for wrong in ("1", True, float("nan"))), name
            case "boolean":
                assert reads(runner, name, True) and not reads(runner, name, "true"), name
            case "select":
                assert limits == ", ".join(choices[name])
                assert all(reads(runner, name, one) for one in choices[name] if name != "auth"), name
                assert not reads(runner, name, "something else"), name
            case "textarea":
                assert limits == "a JSON object"
                assert reads(runner, name, '{"a": 1}'), name
                for wrong in ("[]", "{", "NaN", '{"a": NaN}', "[" * 100_000):
                    assert not reads(runner, name, wrong), name
            case _ if limits == "printable ASCII":
                assert not any(reads(runner, name, wrong) for wrong in ("schlüssel", "two\r\nlines", 7)), name
            case _ if limits.startswith("`http`"):
                wrongs = ("ftp://example.com", "http://", "http://user:pw@example.com", "http://[::1", "http://a:99999")
                assert not any(reads(runner, name, wrong) for wrong in wrongs), name
                assert not reads(runner, name, "http://example.com/#part"), name
            case _:
                assert limits == "—", name
                assert not reads(runner, name, 7), name


@pytest.mark.parametrize("runner", ["dify", "coze", "dashscope"])
def test_the_vendors_own_codes_are_told_as_they_are_read(runner: str) -> None:
    page = (HERE / "docs" / f"runner-{runner}.md").read_text("utf-8")
    told = re.findall(r"^\| `([\w.]+)` \| `(service\.\w+)` \|$", page, re.MULTILINE)
    settings = importlib.import_module(f"portway.runtime.official.{runner}.settings")
    assert told == list(settings.CODES.items())
    published = (HERE / "docs" / "runner-services.md").read_text("utf-8")
    assert all(f"| `{code}` |" in published for _, code in told)
