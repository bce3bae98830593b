"""`portway export`: write a host's set-up down."""

from pathlib import Path
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.declarative.hosted import HostedKinds
from portway.clients.declarative.kinds import KINDS
from portway.clients.declarative.write import document_of, is_declared_elsewhere
from portway.clients.endpoint import Endpoint
from portway.clients.supervisor.layout import write_private
from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, NotAvailable


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be given often.")] = None,
) -> None:
    """Write down what `portway apply` reads: variables stand where secrets are."""

    async def work(endpoint: Endpoint) -> None:
        for name in kind or []:
            if name not in KINDS:
                raise InvalidInput(f"unknown kind `{name}`; kinds: {', '.join(KINDS)}")
        documents: list[str] = []
        async with open_channel(endpoint.host, token=endpoint.token, tls=endpoint.tls) as channel:
            host = HostedKinds(channel)
            for one in KINDS.values():
                if kind and one.name not in kind:
                    continue
                try:
                    found = await host.all(one)
                except NotAvailable:
                    typer.echo(f"note: this host does not serve {one.name}", err=True)
                    continue
                documents += [
                    document_of(one, message)
                    for _, message in sorted(found.items())
                    if not is_declared_elsewhere(message)
                ]
        text = "".join(documents)
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_private(output, text)

    session.run(work)
