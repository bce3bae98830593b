"""The token that a person finds in a file after the first start."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.rpc.errors import NotAuthenticated
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.tokens import ParsedToken, mint_token, parse_token
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.store import StoredTokens, revoke_token
from portway.server.tokens.token_file import TokenFile, ensure_token_file
from portway.server.users.store import StoredUsers
from portway.server.workspaces.directory import WorkspaceDirectory

HERE = Peer(lambda: "test")


class NoRuns:
    async def authenticate(self, token: ParsedToken) -> Caller:
        raise NotAuthenticated("there are no runs here")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(DatabaseOptions(url=f"sqlite:///{tmp_path}/portway.db")) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(
        path=tmp_path / "admin.token", workspace_id="default", role=Role.ADMIN, subject="admin", name="first"
    )


def authenticator(database: Database) -> TokenAuthenticator:
    return TokenAuthenticator(
        StoredTokens(database.reader), NoRuns(), database.writer, StoredUsers(database.reader), WorkspaceDirectory()
    )


async def caller_in(file: TokenFile, database: Database) -> Caller:
    return await authenticator(database).authenticate(file.path.read_text().strip(), HERE)


async def test_a_missing_file_is_made_private_and_its_token_works(database: Database, file: TokenFile) -> None:
    await ensure_token_file(file, database.writer, authenticator(database))
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert (await caller_in(file, database)).role is Role.ADMIN
    first = file.path.read_text()
    await ensure_token_file(file, database.writer, authenticator(database))
    assert file.path.read_text() == first


async def test_a_token_that_the_host_never_saw_is_taken_up(database: Database, file: TokenFile) -> None:
    minted = mint_token("admin")
    file.path.write_text(minted.text + "\n")
    await ensure_token_file(file, database.writer, authenticator(database))
    assert file.path.read_text() == minted.text + "\n"
    assert (await caller_in(file, database)).token_id == minted.token_id


async def test_a_revoked_token_is_replaced_and_never_taken_up_again(database: Database, file: TokenFile) -> None:
    await ensure_token_file(file, database.writer, authenticator(database))
    old = file.path.read_text().strip()
    await database.writer.run(lambda tx: revoke_token(tx, "default", parse_token(old).token_id))
    await ensure_token_file(file, database.writer, authenticator(database))
    assert file.path.read_text().strip() != old
    assert (await caller_in(file, database)).role is Role.ADMIN
    with pytest.raises(NotAuthenticated):
        await authenticator(database).authenticate(old, HERE)


@pytest.mark.parametrize("content", ["", "nonsense", mint_token("viewer").text])
async def test_what_is_no_token_of_the_kind_is_replaced(database: Database, file: TokenFile, content: str) -> None:
    file.path.write_text(content)
    await ensure_token_file(file, database.writer, authenticator(database))
    assert file.path.read_text().strip() != content
    assert (await caller_in(file, database)).role is Role.ADMIN
