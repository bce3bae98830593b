"""The section `log` holds for every part, and in which form lines are written."""

import json
from pathlib import Path

from tests.e2e.stack import started
from tests.e2e.test_bad_input import up


def lines_of(folder: Path) -> list[dict[str, object]]:
    found = [line for line in (folder / "up.log").read_text("utf-8").splitlines() if line.startswith("{")]
    return [json.loads(line) for line in found]


async def test_json_lines_of_all_parts_from_the_level_that_is_wanted(tmp_path: Path) -> None:
    async with started(tmp_path, config="log: {format: json, level: info}\n") as stack:
        assert (await stack.portway("send", "hello", "--wait")).code == 0
    lines = lines_of(tmp_path)
    assert {"host", "runtime", "box"} <= {line["service"] for line in lines}
    assert any(line["event"] == "rpc" for line in lines)


async def test_a_higher_level_leaves_the_rest_out(tmp_path: Path) -> None:
    async with started(tmp_path, config="log: {format: json}\n", LOG__LEVEL="error") as stack:
        assert (await stack.portway("send", "hello", "--wait")).code == 0
    assert [line for line in lines_of(tmp_path) if line["level"] in ("debug", "info", "warning")] == []


async def test_lines_for_people_on_request(tmp_path: Path) -> None:
    async with started(tmp_path, config="log: {format: console}\n"):
        pass
    said = (tmp_path / "up.log").read_text("utf-8")
    assert "the host serves" in said
    assert lines_of(tmp_path) == []


def test_a_level_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    path = tmp_path / "portway.yaml"
    path.write_text("log: {level: loud}\n")
    ended = up(tmp_path, "--config", str(path))
    assert ended.returncode == 78, ended.stderr
    assert "warning" in ended.stderr and "log" in ended.stderr
