"""The same suite once more as a plain user, where the test run itself is root's."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.box.box_process import PLAIN_USER, UNPRIVILEGED, interpreter, plain_environment, why_not

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


def test_the_suite_passes_for_a_plain_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("this test run is a plain user's already")
    if reason := why_not(UNPRIVILEGED):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="portway-contract-") as folder:
        os.chown(folder, PLAIN_USER, PLAIN_USER)
        options = ["-q", "-k", "namespace", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/tests"]
        done = subprocess.run(
            [
                *interpreter(UNPRIVILEGED),
                "-m",
                "pytest",
                *options,
                *(str(HERE / f"test_{name}.py") for name in ("backend", "running")),
            ],
            env={"PATH": os.environ["PATH"], "HOME": folder} | plain_environment(UNPRIVILEGED),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=300,
        )
    closing = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in closing[0]
    assert "skipped" not in closing[0]
