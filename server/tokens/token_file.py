"""Tokens that the host makes by itself and leaves in a file: for the first administrator and the bundled web chat."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from portway.rpc.errors import Conflict, NotAuthenticated, Reason, WrongState
from portway.rpc.identity import Peer, Role
from portway.rpc.tokens import mint_token, parse_token
from portway.server.storage_engine.writer import Writer
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.store import add_token
from portway.server.tokens.types import NewToken

_HERE = Peer(lambda: "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """What the file is for."""

    path: Path
    workspace_id: str
    role: Role
    subject: str
    name: str


async def ensure_token_file(file: TokenFile, writer: Writer, authenticator: TokenAuthenticator) -> None:
    """After this the file (mode 0600) holds a token that works. One that does is left alone; one that this host never
    saw is taken up, because who starts the host may have told it to other servers already, and who may write there owns
    the data anyway. A missing or revoked one is replaced by a new token.

    Raises WrongState when the file cannot be read or written.
    """
    try:
        present = await asyncio.to_thread(_read, file.path)
        if present and await _works(present, file, authenticator):
            return
        if present and await _taken_up(present, file, writer):
            return
        minted = mint_token(file.role.name.lower())
        new = _new_token(file, minted.token_id, minted.secret_hash)
        await writer.run(lambda tx: add_token(tx, new))
        await asyncio.to_thread(write_token, file.path, minted.text)
    except OSError as error:
        raise WrongState(
            f"The token file {file.path} cannot be used: {error.strerror}. Make its folder writable, or name another.",
            reason=Reason.NOT_CONFIGURED,
        ) from error
    structlog.get_logger("portway.server.tokens").info("a token was made", name=file.name, file=str(file.path))


async def _taken_up(text: str, file: TokenFile, writer: Writer) -> bool:
    """Whether the text is a token of the right kind that no token of the store stands against."""
    try:
        parsed = parse_token(text)
    except NotAuthenticated:
        return False
    if parsed.kind != file.role.name.lower():
        return False
    new = _new_token(file, parsed.token_id, parsed.secret_hash)
    try:
        await writer.run(lambda tx: add_token(tx, new))
    except Conflict:
        return False
    return True


def _new_token(file: TokenFile, token_id: str, secret_hash: bytes) -> NewToken:
    kind = file.role.name.lower()
    return NewToken(
        workspace_id=file.workspace_id,
        token_id=token_id,
        kind=kind,
        role=kind,
        subject=file.subject,
        secret_hash=secret_hash,
        name=file.name,
    )


async def _works(text: str, file: TokenFile, authenticator: TokenAuthenticator) -> bool:
    try:
        caller = await authenticator.authenticate(text, _HERE)
    except NotAuthenticated:
        return False
    return (caller.role, caller.workspace_id, caller.subject) == (file.role, file.workspace_id, file.subject)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "not a token"


def write_token(path: Path, text: str) -> None:
    """Replace the file, mode 0600, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
