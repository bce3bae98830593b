"""`portway tokens`: create, list, rotate, revoke; a new one for an administrator who lost theirs."""

import os
import sys
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import options_pb2, token_pb2

tokens = typer.Typer(no_args_is_help=True, help="Make and end API tokens.")
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(tokens, name="tokens")


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str, typer.Option(help="admin, operator, adapter, node, viewer or member.")] = "member",
    days: Annotated[int, typer.Option(min=0, help="Days until it ends; 0: when it is revoked.")] = 0,
    user: Annotated[str, typer.Option(help="Whose it is; empty: nobody's.")] = "",
    workspace: Annotated[str, typer.Option(help="Workspace of the token; empty: your own.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token. Its secret is printed once."""

    async def work(endpoint: Endpoint) -> None:
        request = token_pb2.CreateTokenRequest(
            name=name,
            role=options_pb2.Role.ValueType(session.value_of(options_pb2.Role.DESCRIPTOR, role, "role")),
            user_id=user,
            workspace_id=workspace,
        )
        if days:
            request.ttl.CopyFrom(Duration(seconds=days * 86400))
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.tokens.CreateToken(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(answer.secret)
        typer.echo(f"token {answer.token.token_id}, role {role}; the line above is shown only now", err=True)

    session.run(work)


@tokens.command("list")
def list_tokens(as_json: Json = False) -> None:
    """The first 200 tokens, without secrets."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.tokens.ListTokens(token_pb2.ListTokensRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.tokens))
            return
        rows = [
            (
                token.token_id,
                token.name,
                session.name_of(options_pb2.Role.DESCRIPTOR, token.role),
                "revoked" if token.revoked else session.when(token.expire_time),
                session.when(token.last_use_time),
            )
            for token in page.tokens
        ]
        session.print_table(("token", "name", "role", "ends", "last used"), rows)

    session.run(work)


@tokens.command()
def rotate(
    token_id: Annotated[str, typer.Argument(help="Token id.")],
    overlap: Annotated[int, typer.Option(min=0, help="Seconds for which the old secret works too.")] = 0,
    as_json: Json = False,
) -> None:
    """Give a token a new secret, which is printed once. Its id and its streams stay."""

    async def work(endpoint: Endpoint) -> None:
        request = token_pb2.RotateTokenRequest(token_id=token_id, overlap=Duration(seconds=overlap))
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.tokens.RotateToken(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(answer.secret)
        typer.echo(f"token {token_id}; the line above is shown only now", err=True)

    session.run(work)


@tokens.command()
def revoke(token_id: Annotated[str, typer.Argument(help="Token id.")]) -> None:
    """End a token at once."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.tokens.RevokeToken(token_pb2.RevokeTokenRequest(token_id=token_id), timeout=CALL_SECONDS)
        typer.echo(f"token {token_id} revoked")

    session.run(work)


@tokens.command(
    "reset-admin",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def reset_admin(context: typer.Context) -> None:
    """Make a new admin token on the host's own machine, with the host stopped (`--help` lists the options)."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.server.archive", "reset-admin", *context.args])
