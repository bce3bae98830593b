"""`portway doctor`: what this machine and the box's machine lack, what that costs and what to do."""

import asyncio
import os
from dataclasses import asdict
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.box.reaching import reached
from portway.clients.cli.machine import BOX_CHECKS, CHECKS, Finding
from portway.clients.endpoint import find_endpoint
from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2

_ASK_SECONDS = 30.0


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, session.JSON_OPTION] = False,
    box: Annotated[bool, typer.Option("--box/--no-box", help="Ask the box, where one can be reached.")] = True,
) -> None:
    """Check the machine. Exit code 1 where something is missing without which Portway does not work at all."""
    findings = [check() for check in CHECKS]
    asked = asyncio.run(_of_the_box()) if box else None
    # A box that answers knows its own machine best, be it this one or another.
    findings += [check() for check in BOX_CHECKS] if asked is None else asked
    findings += asyncio.run(_of_the_runtime())
    if as_json:
        session.print_json([asdict(finding) for finding in findings])
    else:
        session.print_table(("", "what", "found", "what it costs", "what to do"), map(_row, findings))
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def _row(finding: Finding) -> tuple[str, ...]:
    state = "ok" if finding.ok else ("MISSING" if finding.needed else "limited")
    return state, finding.name, finding.told, finding.cost, finding.advice


async def _of_the_box() -> list[Finding] | None:
    """None where no box can be asked."""
    try:
        endpoint = find_endpoint(os.environ)
        async with reached(endpoint, seconds=60) as found:
            if not await found.box.reachable(2.0):
                return None
            with errors_by_meaning():
                answer = await found.box.service.Diagnose(box_pb2.DiagnoseRequest(), timeout=_ASK_SECONDS)
    except PortwayError:
        return None
    return [_finding(one) for one in answer.findings]


async def _of_the_runtime() -> list[Finding]:
    """What it cannot bound on its machine; nothing where no runtime can be asked."""
    try:
        endpoint = find_endpoint(os.environ)
        async with session.runtime(endpoint) as runtime:
            status = await runtime.status()
    except PortwayError:
        return []
    name = "runtime: limits of plugins"
    if not status.unenforced_limits:
        return [Finding(name, True, "all of them hold")]
    advice = "let the runtime write to its control group: root, or a unit with Delegate=yes"
    return [Finding(name, False, told, advice, cost="only by single processes") for told in status.unenforced_limits]


def _finding(found: box_pb2.Finding) -> Finding:
    return Finding(
        name=f"box: {found.name}",
        ok=found.state == box_pb2.FINDING_STATE_OK,
        told=found.found,
        advice=found.advice,
        cost=found.cost,
        needed=False,
    )
