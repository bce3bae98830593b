"""What the database knows to be held."""

from dataclasses import dataclass
from functools import partial

from portway.server.ownership.types import Owner, OwnerKind, Source, Thing
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import SqlValue

_OPEN_RUN = "state IN ('queued', 'running', 'waiting')"


@dataclass(frozen=True, slots=True)
class _Table:
    """How a kind is read. An owner without a condition holds nothing of the kind."""

    kind: str
    table: str
    item: str
    owner: str
    state: str
    since: str
    lease: str
    held: str
    run: str = ""
    conversation: str = ""


def _runs_of(column: str) -> str:
    """Of runs that are kept, by their conversation: the run's own table knows it."""
    return f"{column} IN (SELECT run_id FROM runs WHERE workspace_id = :workspace_id AND conversation_id = :name)"


_TABLES = (
    _Table(
        kind="run",
        table="runs",
        item="run_id",
        owner="CASE WHEN parent_run_id = '' THEN conversation_id ELSE parent_run_id END",
        state="CASE WHEN cancel_time > 0 THEN 'cancelling' ELSE state END",
        since="create_time",
        lease="deadline",
        held=_OPEN_RUN,
        # What it started and nobody has ended is its own as well.
        run="(run_id = :name OR parent_run_id = :name)",
        conversation="conversation_id = :name",
    ),
    _Table(
        kind="attempt",
        table="run_attempts",
        item="run_id || '/' || CAST(attempt AS TEXT)",
        owner="run_id",
        state="state",
        since="start_time",
        lease="0",
        held="state = 'live'",
        run="run_id = :name",
        conversation=_runs_of("run_id"),
    ),
    _Table(
        kind="token",
        table="run_attempts",
        item="token_id",
        owner="run_id",
        state="state",
        since="start_time",
        lease="0",
        held="state = 'live'",
        run="run_id = :name",
        conversation=_runs_of("run_id"),
    ),
    _Table(
        kind="steer",
        table="run_steers",
        item="steering_id",
        owner="run_id",
        state="state",
        since="create_time",
        lease="0",
        held="state = 'queued'",
        run="run_id = :name",
        conversation=_runs_of("run_id"),
    ),
    _Table(
        kind="effect",
        table="effects",
        item="effect_id",
        owner="run_id",
        state="state || ': ' || tool",
        since="create_time",
        lease="0",
        held="state = 'planned'",
        run="run_id = :name",
        conversation=_runs_of("run_id"),
    ),
    _Table(
        kind="approval",
        table="approvals",
        item="approval_id",
        owner="run_id",
        state="state",
        since="create_time",
        lease="expire_time",
        held="state = 'pending'",
        run="run_id = :name",
        conversation="conversation_id = :name",
    ),
    _Table(
        kind="interaction",
        table="interactions",
        # A question's id is unique in its run only.
        item="run_id || '/' || interaction_id",
        owner="run_id",
        state="state",
        since="create_time",
        lease="expire_time",
        held="state = 'open'",
        run="run_id = :name",
        conversation="conversation_id = :name",
    ),
    _Table(
        kind="delivery",
        table="deliveries",
        item="delivery_id",
        owner="CASE WHEN run_id = '' THEN conversation_id ELSE run_id END",
        state="state",
        since="create_time",
        lease="expire_time",
        held="state IN ('pending', 'sent', 'unknown')",
        run="run_id = :name",
        conversation="conversation_id = :name",
    ),
    _Table(
        kind="schedule",
        table="schedules",
        item="schedule_id",
        owner="workspace_id",
        state="'its run ' || last_run_id || ' is under way'",
        since="last_time",
        lease="0",
        held=f"last_run_id IN (SELECT run_id FROM runs WHERE workspace_id = :workspace_id AND {_OPEN_RUN})",
        run="last_run_id = :name",
    ),
    _Table(
        kind="erasure",
        table="erasures",
        item="erasure_id",
        owner="subject_id",
        state="'under way'",
        since="create_time",
        lease="0",
        held="end_time = 0",
        conversation="kind = 'conversation' AND subject_id = :name",
    ),
    _Table(
        kind="lease",
        table="leases",
        item="name",
        owner="workspace_id",
        state="'fencing token ' || CAST(fencing_token AS TEXT)",
        since="0",
        lease="expire_time",
        held="expire_time > :now",
    ),
)
# The host's own lease belongs to no workspace: the one that operates the host sees it.
_HOST_LEASE = """
SELECT name, 'host', 'fencing token ' || CAST(fencing_token AS TEXT), 0, expire_time FROM leases
WHERE workspace_id = '' AND name = 'host' AND expire_time > :now AND name > :after
"""


def kept_sources(reader: Reader, host_workspace: str) -> list[Source]:
    """One for each kind."""
    sources = [Source(one.kind, partial(_of_table, reader, one)) for one in _TABLES]
    return [*sources, Source("host", partial(_of_host, reader, host_workspace))]


async def _of_table(reader: Reader, table: _Table, owner: Owner, after: str, limit: int) -> list[Thing]:
    sql = _sql(table, owner.kind)
    if not sql:
        return []
    params: dict[str, SqlValue] = {
        "workspace_id": owner.workspace_id,
        "name": owner.name,
        "after": after,
        "limit": limit,
    }
    rows = await reader.run(lambda tx: tx.all(sql, {**params, "now": tx.now}))
    return [Thing(table.kind, *row) for row in rows]


async def _of_host(reader: Reader, host_workspace: str, owner: Owner, after: str, limit: int) -> list[Thing]:
    if owner.kind is not OwnerKind.WORKSPACE or owner.workspace_id != host_workspace:
        return []
    rows = await reader.run(lambda tx: tx.all(_HOST_LEASE, {"now": tx.now, "after": after}))
    return [Thing("lease", *row) for row in rows]


def _sql(table: _Table, kind: OwnerKind) -> str:
    """Empty where such an owner never holds such a thing."""
    conditions = {OwnerKind.RUN: table.run, OwnerKind.CONVERSATION: table.conversation, OwnerKind.WORKSPACE: "1 = 1"}
    condition = conditions.get(kind, "")
    if not condition:
        return ""
    return f"""
    SELECT {table.item} AS item, {table.owner}, {table.state}, {table.since}, {table.lease} FROM {table.table}
    WHERE workspace_id = :workspace_id AND {table.held} AND {condition} AND {table.item} > :after
    ORDER BY item LIMIT :limit
    """
