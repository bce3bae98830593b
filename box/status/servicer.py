"""BoxService on the wire."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Never

from portway.box.backends.types import BackendReport
from portway.box.paging import Pager
from portway.box.sessions.types import SessionFigures
from portway.box.sessions.wire import seconds_of, timestamp, usage_to
from portway.box.status.doctor import Doctor
from portway.box.status.errors import BoxError, ErrorLog
from portway.box.status.findings import Finding, FindingState
from portway.box.status.health import BoxHealth
from portway.box.workspaces import EVERY_WORKSPACE, require_every_workspace, workspace_of
from portway.rpc.call import Call
from portway.v1 import box_pb2 as pb

DEFAULT_PAGE = 50
MOST_SESSIONS_SHOWN = 200
DEFAULT_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS = 5.0, 1.0
DEFAULT_DRAIN_SECONDS, DEFAULT_SHUTDOWN_SECONDS = 30.0, 5.0


class BoxServicer:
    """Translates; `shut_down` is called with the grace time in seconds."""

    def __init__(
        self, health: BoxHealth, errors: ErrorLog, doctor: Doctor, pages: Pager, shut_down: Callable[[float], None]
    ) -> None:
        self._doctor = doctor
        self._health = health
        self._errors = errors
        self._pages = pages
        self._shut_down = shut_down

    async def GetBoxStatus(self, request: pb.GetBoxStatusRequest, call: Call[Never, Never]) -> pb.GetBoxStatusResponse:
        report = await self._health.report()
        figures = self._health.figures()
        return pb.GetBoxStatusResponse(
            version=version("portway"),
            enabled=self._health.enabled,
            available=self._health.enabled and report.available,
            reason=report.reason if self._health.enabled else "switched off by the operator (`box.enabled: false`)",
            backend=_report_to(report),
            session_count=figures.sessions,
            running_count=figures.running,
            draining=self._health.draining,
            start_time=timestamp(self._health.start_time),
            swept_count=self._health.swept,
        )

    async def GetBackends(self, request: pb.GetBackendsRequest, call: Call[Never, Never]) -> pb.GetBackendsResponse:
        reports = [await self._health.report(), *await self._health.others()]
        return pb.GetBackendsResponse(
            backends=[_report_to(report) for report in reports], required_probes=self._health.required_probes
        )

    async def Diagnose(self, request: pb.DiagnoseRequest, call: Call[Never, Never]) -> pb.DiagnoseResponse:
        findings = await self._doctor.look()
        return pb.DiagnoseResponse(findings=[_finding_to(one) for one in findings], machine=self._doctor.machine())

    async def ListErrors(self, request: pb.ListErrorsRequest, call: Call[Never, Never]) -> pb.ListErrorsResponse:
        caller = call.caller
        seen = None if caller.workspace_id == EVERY_WORKSPACE else caller.workspace_id
        page, token = self._pages.page(
            self._errors.newest_first(seen, request.session_id),
            lambda error: (-error.number,),
            f"errors/{seen}/{request.session_id}",
            request.page_token,
            request.page_size or DEFAULT_PAGE,
        )
        return pb.ListErrorsResponse(errors=[_error_to(error) for error in page], next_page_token=token)

    async def WatchStats(self, request: pb.WatchStatsRequest, call: Call[None, pb.WatchStatsResponse]) -> None:
        asked = seconds_of(request.interval, "interval") if request.HasField("interval") else DEFAULT_INTERVAL_SECONDS
        interval = max(asked, SHORTEST_INTERVAL_SECONDS)
        workspace_id = workspace_of(call.caller, request.workspace_id) if request.with_sessions else None
        while not call.draining.is_set():
            await call.write(await self._stats(workspace_id))
            try:
                await asyncio.wait_for(call.draining.wait(), interval)
            except TimeoutError:
                continue

    async def _stats(self, workspace_id: str | None) -> pb.WatchStatsResponse:
        """`workspace_id`: of the sessions whose figures are wanted too."""
        figures = self._health.figures()
        made = pb.WatchStatsResponse(
            session_count=figures.sessions,
            running_count=figures.running,
            command_count=figures.commands,
            memory_bytes=figures.memory_bytes,
        )
        made.time.GetCurrentTime()
        if workspace_id is not None:
            shown, made.omitted_session_count = await self._health.sessions_in_use(workspace_id, MOST_SESSIONS_SHOWN)
            made.sessions.extend(_figures_to(one) for one in shown)
        return made

    async def DrainBox(self, request: pb.DrainBoxRequest, call: Call[Never, Never]) -> pb.DrainBoxResponse:
        require_every_workspace(call.caller)
        grace = seconds_of(request.grace, "grace") if request.HasField("grace") else DEFAULT_DRAIN_SECONDS
        return pb.DrainBoxResponse(running_count=await self._health.drain(grace))

    async def ShutdownBox(self, request: pb.ShutdownBoxRequest, call: Call[Never, Never]) -> pb.ShutdownBoxResponse:
        require_every_workspace(call.caller)
        grace = seconds_of(request.grace, "grace") if request.HasField("grace") else DEFAULT_SHUTDOWN_SECONDS
        self._shut_down(grace)
        return pb.ShutdownBoxResponse()


def _report_to(report: BackendReport) -> pb.BackendInfo:
    return pb.BackendInfo(
        name=report.name,
        available=report.available,
        reason=report.reason,
        mode=report.mode,
        unenforced_limits=report.unenforced,
        probes=[
            pb.IsolationProbe(name=probe.name, contained=probe.contained, message=probe.message)
            for probe in report.probes
        ],
    )


_FINDING_TO = {
    FindingState.OK: pb.FINDING_STATE_OK,
    FindingState.LIMITED: pb.FINDING_STATE_LIMITED,
    FindingState.MISSING: pb.FINDING_STATE_MISSING,
}


def _finding_to(found: Finding) -> pb.Finding:
    return pb.Finding(
        name=found.name, state=_FINDING_TO[found.state], found=found.found, cost=found.cost, advice=found.advice
    )


def _error_to(error: BoxError) -> pb.BoxError:
    return pb.BoxError(
        time=timestamp(error.time),
        session_id=error.session_id,
        code=error.code,
        message=error.message,
        workspace_id=error.workspace_id,
    )


def _figures_to(figures: SessionFigures) -> pb.SessionFigures:
    return pb.SessionFigures(
        session_id=figures.session.ref.session_id,
        usage=usage_to(figures),
        last_use_time=timestamp(figures.session.last_use_time),
    )
