"""The published conformance suite of MCP against the host's client, in a network of its own: it listens everywhere.

Out of scope, because the host does not offer it: elicitation (declined, which is shown here) and the 19 scenarios of
`auth/` (the host authorizes itself with headers that an operator writes, not by OAuth).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.npm import installed_peers

pytestmark = pytest.mark.heavy

CLIENT = [sys.executable, str(Path(__file__).resolve().parents[3] / "peers" / "mcp_client.py")]


def suite(scenario: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Plays one scenario; the client is started by the suite."""
    program = installed_peers() / "node_modules" / ".bin" / "conformance"
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    tried = subprocess.run([*alone, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    if shutil.which("ip") is None or tried.returncode != 0:
        pytest.skip(f"no network of its own can be had here: {tried.stderr.strip() or 'there is no `ip`'}")
    line = shlex.join([str(program), "client", "--command", shlex.join(CLIENT), "--scenario", scenario])
    return subprocess.run(
        [*alone, "/bin/sh", "-c", f"ip link set lo up; exec {line}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("scenario", ["initialize", "tools_call", "sse-retry"])
def test_the_client_conforms(scenario: str, tmp_path: Path) -> None:
    done = suite(scenario, tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    # Of a suite that checked nothing the same could be said.
    assert "OVERALL: PASSED" in done.stdout and "Passed: 0/" not in done.stdout


def test_elicitation_is_declined(tmp_path: Path) -> None:
    done = suite("elicitation-sep1034-client-defaults", tmp_path)
    assert "Elicitation not supported" in done.stdout, done.stdout[-4000:]
