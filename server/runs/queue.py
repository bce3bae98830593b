"""Which run goes next: fair over workspaces, then over conversations; one run of a conversation at a time."""

import bisect
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from portway.server.runs.pending import QueuedRun

LaneKey = tuple[str, str]
RunKey = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Lane:
    """One conversation: its runs in order of their events, and the one that executes."""

    key: LaneKey
    runs: list[QueuedRun] = field(default_factory=list)
    active: QueuedRun | None = None
    ready: bool = False


@dataclass(slots=True, eq=False)
class _Workspace:
    """Lanes that could go now, and how many runs execute. `turn` counts the places given to it."""

    workspace_id: str
    ready: deque[_Lane] = field(default_factory=deque)
    active: int = 0
    waiting: int = 0
    listed: tuple[int, int] | None = None


class RunQueue:
    """Runs that wait or execute. Among workspaces the one with the fewest executing runs goes first, then by turns."""

    def __init__(self, active_limit: Callable[[str], int | None] = lambda _: None) -> None:
        """`active_limit`: how many runs of a workspace may execute at once; None for no limit."""
        self._active_limit = active_limit
        self._lanes: dict[LaneKey, _Lane] = {}
        self._workspaces: dict[str, _Workspace] = {}
        # (executing runs, turn, workspace id); entries that are not their workspace's `listed` one are out of date.
        self._order: list[tuple[int, int, str]] = []
        self._later: list[tuple[int, int, LaneKey]] = []
        self._turn = 0
        self._waiting = 0
        self._known: dict[RunKey, LaneKey] = {}

    @property
    def waiting_count(self) -> int:
        return self._waiting

    @property
    def active_count(self) -> int:
        return len(self._known) - self._waiting

    def __contains__(self, key: RunKey) -> bool:
        return key in self._known

    def waiting_in(self, lane: LaneKey) -> int:
        found = self._lanes.get(lane)
        return len(found.runs) if found else 0

    def active_in(self, lane: LaneKey) -> QueuedRun | None:
        found = self._lanes.get(lane)
        return found.active if found else None

    def is_busy(self, lane: LaneKey) -> bool:
        return lane in self._lanes

    def put(self, run: QueuedRun, now: int) -> None:
        """Add a run at the place of its event; one that is not available yet (`now` in microseconds) holds its lane."""
        if run.key in self._known:
            raise AssertionError(f"run {run.key[1]} is in the queue already")
        lane = self._lanes.get(run.lane)
        if lane is None:
            lane = self._lanes[run.lane] = _Lane(run.lane)
        bisect.insort(lane.runs, run, key=lambda one: one.event_sequence)
        self._known[run.key] = run.lane
        self._count(run, 1)
        self._offer(lane, now)

    def take(self, now: int) -> QueuedRun | None:
        """The next run; it executes until `done`. Nothing where none can go now."""
        self._wake_later(now)
        while self._order:
            active, turn, workspace_id = heapq.heappop(self._order)
            workspace = self._workspaces[workspace_id]
            if workspace.listed != (active, turn):
                continue
            workspace.listed = None
            if not self._has_room(workspace):
                # Its limit was lowered since; `review` or the end of a run lists it again.
                continue
            lane = workspace.ready.popleft()
            lane.ready = False
            run = lane.runs.pop(0)
            lane.active = run
            workspace.active += 1
            self._count(run, -1)
            self._list(workspace)
            return run
        return None

    def done(self, run: QueuedRun, now: int) -> None:
        """The run executes no longer: the next one of its conversation may go."""
        lane = self._lanes[run.lane]
        lane.active = None
        self._known.pop(run.key, None)
        workspace = self._workspaces[run.lane[0]]
        workspace.active -= 1
        self._offer(lane, now)
        self._list(workspace)

    def remove(self, key: RunKey, now: int) -> QueuedRun | None:
        """Take out a run that waits; nothing where it does not."""
        lane_key = self._known.get(key)
        lane = self._lanes.get(lane_key) if lane_key else None
        run = next((one for one in lane.runs if one.key == key), None) if lane else None
        if lane is None or lane_key is None or run is None:
            return None
        lane.runs.remove(run)
        self._known.pop(key, None)
        self._count(run, -1)
        if lane.ready:
            lane.ready = False
            workspace = self._workspaces[lane_key[0]]
            workspace.ready.remove(lane)
            self._list(workspace)
        self._offer(lane, now)
        return run

    def waiting_of(self, workspace_id: str) -> int:
        """How many runs of a workspace wait."""
        found = self._workspaces.get(workspace_id)
        return found.waiting if found else 0

    def review(self, workspace_id: str) -> None:
        """Its limit has changed."""
        workspace = self._workspaces.get(workspace_id)
        if workspace is not None:
            self._list(workspace)

    def next_time(self) -> int | None:
        """When the next run becomes available that is not now; in microseconds."""
        return self._later[0][0] if self._later else None

    def _of(self, workspace_id: str) -> _Workspace:
        found = self._workspaces.get(workspace_id)
        if found is None:
            found = self._workspaces[workspace_id] = _Workspace(workspace_id)
        return found

    def _count(self, run: QueuedRun, change: int) -> None:
        self._waiting += change
        self._of(run.lane[0]).waiting += change

    def _has_room(self, workspace: _Workspace) -> bool:
        limit = self._active_limit(workspace.workspace_id)
        return limit is None or workspace.active < limit

    def _offer(self, lane: _Lane, now: int) -> None:
        if not lane.runs:
            if lane.active is None:
                del self._lanes[lane.key]
            return
        if lane.active is not None or lane.ready:
            return
        available = lane.runs[0].available_time
        if available > now:
            self._turn += 1
            heapq.heappush(self._later, (available, self._turn, lane.key))
            return
        lane.ready = True
        workspace = self._of(lane.key[0])
        workspace.ready.append(lane)
        self._list(workspace)

    def _list(self, workspace: _Workspace) -> None:
        """Give the workspace its place in the order, by how much it has executing now."""
        if not workspace.ready or not self._has_room(workspace):
            workspace.listed = None
            return
        if workspace.listed is not None and workspace.listed[0] == workspace.active:
            return
        self._turn += 1
        workspace.listed = (workspace.active, self._turn)
        heapq.heappush(self._order, (workspace.active, self._turn, workspace.workspace_id))

    def _wake_later(self, now: int) -> None:
        while self._later and self._later[0][0] <= now:
            lane = self._lanes.get(heapq.heappop(self._later)[2])
            if lane is not None:
                self._offer(lane, now)
