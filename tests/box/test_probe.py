"""A machine on which the sandbox does not hold is found out before anybody uses it."""

from pathlib import Path

import pytest

from portway.box import installation
from portway.box.backends.interface import Sandbox
from portway.box.backends.namespace.backend import NamespaceBackend, NamespacePaths
from portway.box.backends.types import IsolationProbe, SandboxSpec
from portway.box.isolation.limits import Limits
from portway.rpc.errors import WrongState
from tests.box.box_process import ROOT, UNPRIVILEGED, why_not


async def one_way_out(_sandbox: Sandbox) -> tuple[IsolationProbe, ...]:
    return IsolationProbe("the sandbox runs", True, "yes"), IsolationProbe("read kernel memory", False, "succeeded")


async def test_one_attempt_that_is_not_contained_keeps_all_sessions_out(tmp_path: Path) -> None:
    if why_not(ROOT) and why_not(UNPRIVILEGED):
        pytest.skip(why_not(UNPRIVILEGED))
    own = installation.take(tmp_path / "data")
    backend = NamespaceBackend(NamespacePaths(own.data, tmp_path / "users"), own, lambda _why: None, one_way_out)
    try:
        report = await backend.probe()
        assert not report.available
        assert "read kernel memory" in report.reason
        assert [probe.contained for probe in report.probes] == [True, False]
        with pytest.raises(WrongState, match="read kernel memory"):
            await backend.create(SandboxSpec("key", Limits()))
    finally:
        await backend.close()
        own.close()
