"""Whether this machine allows a sandbox, found out without the code under test: that it fails is no reason to skip."""

import pytest

from tests.box.box_process import ROOT, UNPRIVILEGED, why_not


def why_no_sandbox() -> str:
    """Why a box of this user cannot run commands on this machine; empty where it can."""
    return why_not(ROOT) and why_not(UNPRIVILEGED)


needs_sandbox = pytest.mark.skipif(bool(why_no_sandbox()), reason=f"no sandbox on this machine: {why_no_sandbox()}")
