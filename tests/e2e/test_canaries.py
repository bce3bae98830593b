"""Secrets that were put everywhere are found nowhere: not in logs, answers, command lines, or the environment of what
runs plugins and commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.stack import Stack, started

CANARY = "canary9f8e7d6c5b4a"


def descendants(root: int) -> dict[int, tuple[bytes, bytes]]:
    """Command line and environment of every process below one."""
    parents, found = dict[int, int](), dict[int, tuple[bytes, bytes]]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found[int(folder.name)] = ((folder / "cmdline").read_bytes(), (folder / "environ").read_bytes())
        except OSError:
            continue
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: found[pid] for pid in below & found.keys()}


def servers(stack: Stack) -> set[int]:
    return {stack.process.pid, *(stack.pid(part) for part in ("up", "host", "runtime", "box", "web"))}


async def test_canaries_stay_where_they_were_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", f"{CANARY}-environment")
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}-vendor")
    away = "http://127.0.0.1:9/v1"
    provider = {
        "kind": "openai",
        "base_url": away,
        "api_key": f"{CANARY}-key",
        "headers": {"x-more": f"{CANARY}-header"},
        "models": [{"id": "away"}],
    }
    config = {
        "models": {"default": "away", "providers": {"main": provider}},
        "telemetry": {"otlp_endpoint": f"{away}/traces", "headers": {"x-key": f"{CANARY}-collector"}},
    }
    said = ""
    async with started(tmp_path, config=yaml.safe_dump(config)) as stack:
        secrets = [CANARY.encode(), stack.token.rpartition("_")[2].encode()]
        for arguments in (
            ("send", "hi", "--wait"),
            ("status",),
            ("model", "list"),
            ("runs", "list"),
            ("agents", "list"),
        ):
            outcome = await stack.portway(*arguments)
            said += outcome.out + outcome.err
        assert "could not be reached" in said, said
        processes = descendants(stack.process.pid)
        children = processes.keys() - servers(stack)
        assert children, "plugins have processes"
        for pid, (command, environment) in processes.items():
            assert not any(secret in command for secret in secrets), command
            if pid in children:
                assert not any(secret in environment for secret in secrets), command
    said += (tmp_path / "up.log").read_text("utf-8")
    assert "traces cannot be sent" in said
    assert not any(secret.decode() in said for secret in secrets)
