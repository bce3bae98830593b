"""The metrics of all three servers of an installation, with one token, as Prometheus would read them."""

from __future__ import annotations

from pathlib import Path

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stack import started
from tests.postgres import free_port


async def read(port: int, token: str) -> dict[str, float]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        url, headers = f"http://127.0.0.1:{port}/metrics", {"authorization": f"Bearer {token}"}
        assert (await client.get(url)).status_code == 401
        answer = await client.get(url, headers=headers)
    assert answer.status_code == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def test_every_server_shows_its_numbers(tmp_path: Path) -> None:
    ports = {part: free_port() for part in ("host", "runtime", "box")}
    token_file = tmp_path / "metrics.token"
    config: dict[str, object] = {}
    for part, port in ports.items():
        config[part] = {"metrics": {"listen": f"127.0.0.1:{port}", "token_file": str(token_file)}}
    async with started(tmp_path, config=yaml.safe_dump(config)) as stack:
        assert (await stack.portway("send", "hello", "--wait")).code == 0
        token = token_file.read_text().strip()
        host, runtime, box = [await read(ports[part], token) for part in ("host", "runtime", "box")]
    assert host["portway_attempts_total"] == 1
    assert runtime["portway_rpc_calls_total"] >= 1
    assert runtime["portway_plugin_memory_bytes"] > 1_000_000
    assert runtime["portway_plugins"] >= 1
    assert box["portway_rpc_calls_total"] >= 1
    assert "portway_box_sessions" in box
    for found in (host, runtime, box):
        assert found["process_resident_memory_bytes"] > 0
        assert found["process_open_fds"] > 0
