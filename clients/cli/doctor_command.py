"""`portway doctor`: what this machine lacks, what that costs and what to do."""

from dataclasses import asdict
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.machine import CHECKS


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(as_json: Annotated[bool, session.JSON_OPTION] = False) -> None:
    """Check the machine. Exit code 1 where something is missing without which Portway does not work at all."""
    findings = [check() for check in CHECKS]
    if as_json:
        session.print_json([asdict(finding) for finding in findings])
    else:
        rows = [("ok" if f.ok else ("MISSING" if f.needed else "limited"), f.name, f.told, f.advice) for f in findings]
        session.print_table(("", "what", "found", "what to do"), rows)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)
