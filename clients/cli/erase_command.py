"""`portway erase`: what a person said, or a conversation, taken out of everything that is kept."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.rpc.status import errors_by_meaning
from portway.v1 import workspace_pb2 as pb

# It answers when the last of it is gone from the files.
ERASE_SECONDS = 600.0

erase = typer.Typer(no_args_is_help=True, help="Erase what was said. There is no way back.")
Json = Annotated[bool, session.JSON_OPTION]
Reason = Annotated[str, typer.Option(help="For the audit.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    app.add_typer(erase, name="erase")


@erase.command()
def user(
    user_id: Annotated[str, typer.Argument(help="User id, or an account of theirs on a platform.")],
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Everything that one person said, on all their accounts."""
    _erase(f"user {user_id}", pb.EraseDataRequest(user_id=user_id, reason=reason), yes, as_json)


@erase.command()
def conversation(
    conversation_id: Annotated[str, typer.Argument(help="Conversation id.")],
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """A whole conversation."""
    request = pb.EraseDataRequest(conversation_id=conversation_id, reason=reason)
    _erase(f"conversation {conversation_id}", request, yes, as_json)


def _erase(what: str, request: pb.EraseDataRequest, yes: bool, as_json: bool) -> None:
    if not yes:
        typer.confirm(f"Erase the {what}?", abort=True)

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.workspaces.EraseData(request, timeout=ERASE_SECONDS)
        if as_json:
            session.print_json(answer)
        else:
            typer.echo(
                f"{what} erased: {answer.redacted_count} entries blacked out, "
                f"{answer.deleted_artifact_count} files removed (erasure {answer.erasure_id})"
            )

    session.run(work)
