"""What the doctor says of engines: a real one over the wire, and what others would answer."""

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from portway.box.status.engines import look_at_engine
from portway.box.status.findings import FindingState
from portway.v1 import box_pb2
from tests.asking import ask
from tests.box.box_process import DOCKER, box_process, why_not
from tests.box.inside import dial

GOOD = {
    "Driver": "overlay2", "CgroupDriver": "systemd", "SecurityOptions": ["name=seccomp,profile=default"],
    "LiveRestoreEnabled": True, "MemoryLimit": True, "PidsLimit": True,
}  # fmt: skip
VERSION = {"Version": "24.0.7", "ApiVersion": "1.43", "Os": "linux"}


@contextmanager
def answering(folder: Path, answers: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "local"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is written into the test's output."""

    path = str(folder / "e.sock")
    with socketserver.UnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("version", "about", "said"),
    [
        ({}, {}, ""),
        ({"ApiVersion": "1.40"}, {}, "too old"),
        ({"ApiVersion": ""}, {}, "too old"),
        ({"Os": "windows"}, {}, "windows containers"),
        ({}, {"CgroupDriver": "none"}, "control groups by none"),
        ({}, {"SecurityOptions": []}, "without seccomp"),
        ({}, {"MemoryLimit": False}, "systemd"),
    ],
)
def test_an_engine_is_judged_by_what_it_says(
    tmp_path: Path, version: dict[str, Any], about: dict[str, Any], said: str
) -> None:
    with answering(tmp_path, {"/version": VERSION | version, "/info": GOOD | about}) as path:
        found = look_at_engine("docker", path, {})
    assert said in found.found
    assert (found.state is FindingState.OK) == (not version and not about)
    assert bool(found.cost) == bool(found.advice) == (found.state is not FindingState.OK)


def test_an_engine_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    nowhere = look_at_engine("docker", str(tmp_path / "none"), {})
    assert "no socket of docker" in nowhere.found and "docker_socket" in nowhere.advice
    elsewhere = look_at_engine("docker", "tcp://127.0.0.1:1", {})
    assert "not on this machine" in elsewhere.found
    with answering(tmp_path, {}) as path:
        os.rename(path, f"{path}.moved")
    dead = look_at_engine("docker", f"{path}.moved", {})
    assert "does not answer" in dead.found and "log" in dead.advice


async def test_a_real_engine_is_found_by_the_doctor() -> None:
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    with box_process(DOCKER) as box:
        box.start()
        async with dial(box) as channel:
            findings = {one.name: one for one in (await ask(channel, box_pb2.DiagnoseRequest())).findings}
    assert findings["docker"].state == box_pb2.FINDING_STATE_OK, findings["docker"]
    assert "cgroupfs" in findings["docker"].found
