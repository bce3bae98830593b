"""Which sessions are let in: room for them, and what the operator or the caller wants to be measured first."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from portway.box.backends.types import BackendReport
from portway.box.sessions.types import SessionRef, SessionSpec
from portway.rpc.errors import FieldViolation, LimitExceeded, Quota, WrongState

EVERY_PROBE = "all"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions there may be."""

    total: int = 256
    per_workspace: int = 128


class Admission:
    """`report` is the backend as it was measured last; `required` are probes that it must have passed."""

    def __init__(self, limits: SessionLimits, required: Collection[str], report: Callable[[], BackendReport]) -> None:
        self._limits = limits
        self.required = tuple(sorted(set(required)))
        self._report = report

    def require_room(self, workspace_id: str, taken: Collection[SessionRef]) -> None:
        """Raises `LimitExceeded`. `taken` are all sessions that hold something, also those on their way out."""
        own = sum(1 for ref in taken if ref.workspace_id == workspace_id)
        for count, most, whose in (
            (len(taken), self._limits.total, "this box"),
            (own, self._limits.per_workspace, f"workspace {workspace_id!r}"),
        ):
            if count >= most:
                raise LimitExceeded(
                    f"{whose} already has {count} sessions; delete one, or wait until an idle one is removed",
                    retry_after=10.0,
                    quota=Quota(whose, f"at most {most} sessions"),
                )

    def require_probes(self, spec: SessionSpec) -> None:
        """Raises `WrongState` that names the probes which are not known to hold."""
        report = self._report()
        for wanted, whose, field in (
            (self.required, "the operator requires (`box.require_probes`)", ""),
            (spec.require_probes, "this session requires", "spec.require_probes"),
        ):
            missing = _missing(wanted, report)
            if missing:
                raise WrongState(
                    f"{whose}: {', '.join(missing)}; measured on the backend {report.name or 'that is none'} and not "
                    "contained, or not measured there. `GetBackends` shows what was",
                    fields=[FieldViolation(field, f"{one!r} is not known to hold") for one in missing if field],
                )


def _missing(wanted: Collection[str], report: BackendReport) -> list[str]:
    contained = {probe.name for probe in report.probes if probe.contained}
    missing = sorted(set(wanted) - contained - {EVERY_PROBE})
    if EVERY_PROBE in wanted:
        missing += sorted(probe.name for probe in report.probes if not probe.contained)
        missing += [] if report.probes else ["any probe"]
    return missing
