"""The dashboard, the alert rules and the page speak of series that there are."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"portway_[a-z_]+")
_CODE = [path for folder in ("rpc", "server", "runtime", "box") for path in (ROOT / folder).rglob("*.py")]
_MADE = re.compile(
    r"(?P<kind>counter|gauge|gauges|counted|measured|one_histogram|Family)\("
    r"\s*\"(?P<name>portway_[a-z_]+)\"(?:,\s*\"(?P<own>[a-z]+)\")?"
)
_COUNTERS, _HISTOGRAMS = ("counter", "counted"), ("measured", "one_histogram")


def served() -> set[str]:
    """Names of samples, as a query has them."""
    names = set[str]()
    for path in _CODE:
        for made in _MADE.finditer(path.read_text("utf-8")):
            kind = made["own"] if made["kind"] == "Family" else made["kind"]
            if kind in _COUNTERS:
                names.add(made["name"] + "_total")
            elif kind in _HISTOGRAMS:
                names.update({made["name"], made["name"] + "_bucket"})
            else:
                names.add(made["name"])
    return names


def test_the_dashboard_asks_for_what_is_there() -> None:
    dashboard = json.loads((ROOT / "docs/operating/grafana/dashboard.json").read_text("utf-8"))
    asked = {name for panel in dashboard["panels"] for one in panel["targets"] for name in NAME.findall(one["expr"])}
    assert len(asked) > 15
    assert asked <= served()


def test_the_alerts_ask_for_what_is_there_and_say_what_to_do() -> None:
    document = yaml.safe_load((ROOT / "docs/operating/prometheus/alerts.yaml").read_text("utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert set(NAME.findall(rule["expr"])) <= served(), rule
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["annotations"]["summary"]


def test_the_page_has_every_series_and_no_other() -> None:
    page = (ROOT / "docs/telemetry.md").read_text("utf-8")
    table = page[page.index("| series |") : page.index("| what happens |")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    written = {name for row in rows for name in NAME.findall(row)}
    assert written == {name for name in served() if not name.endswith("_bucket")}
