"""Archives: everything goes in and comes out again, damage is found before anything is touched, kills break nothing."""

import asyncio
import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from portway.server.archive.tables import shapes
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import load_keyring
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.upgrade import HEAD
from tests.server.archive.everything import fill
from tests.server.archive.tools import asked, begin, opened, rows, tool
from tests.waiting import size_of

OWN = {"host_epochs", "audit", "sequences"}


async def a_host(
    folder: Path, more: Callable[[Transaction], None] | None = None
) -> dict[str, list[tuple[object, ...]]]:
    """A stopped host with rows in every table, keys and a blob; answers its rows."""
    async with opened(folder) as database:
        await database.writer.run(fill)
        keyring = load_keyring(folder / "keys.json")
        blob = await Blobs(folder / "blobs").put("default", b"the bytes of a file")

        def unit(tx: Transaction) -> None:
            tx.execute(
                "UPDATE artifacts SET workspace_id = 'default', sha256 = :sha256 WHERE artifact_id = 'artifact_id-1'",
                {"sha256": blob.sha256},
            )
            tx.execute("UPDATE secrets SET key_id = :key_id", {"key_id": keyring.newest})
            if more is not None:
                more(tx)

        await database.writer.run(unit)
        return await contents(database)


async def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for shape in shapes():
        names = ", ".join(f'"{column}"' for column in shape.columns)
        found[shape.name] = sorted(await asked(database, f"SELECT {names} FROM {shape.name}"), key=repr)
    return found


def without(content: dict[str, list[tuple[object, ...]]], *names: str) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows for name, rows in content.items() if name not in names}


@pytest.mark.parametrize("make, take", [("backup", "restore"), ("export", "import")])
async def test_everything_comes_back(tmp_path: Path, make: str, take: str) -> None:
    before = await a_host(tmp_path / "old")
    assert all(before.values())
    made = await tool(make, "--host-data", tmp_path / "old", tmp_path / "a.zip", "--include-keys")
    assert made.code == 0, made.err
    assert "holds the keys" in made.err
    taken = await tool(take, "--host-data", tmp_path / "new", tmp_path / "a.zip")
    assert taken.code == 0, taken.err
    async with opened(tmp_path / "new") as database:
        after = await contents(database)
        found = await asked(database, "SELECT COUNT(*) FROM transcript_search WHERE transcript_search MATCH 'bicycle'")
    assert found == [(3,)]
    assert without(after, *OWN, "leases") == without(before, *OWN, "leases")
    (row,) = [row for row in before["artifacts"] if row[0] == "default"]
    sha256 = next(value for value in row if isinstance(value, str) and len(value) == 64)
    assert (tmp_path / "new/blobs/w-default" / sha256[:2] / sha256).read_bytes() == b"the bytes of a file"
    assert (tmp_path / "new/keys.json").read_bytes() == (tmp_path / "old/keys.json").read_bytes()
    assert (await tool("check", "--host-data", tmp_path / "new")).code == 0


async def test_an_archive_without_keys_says_so_and_keys_can_be_given(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    made = await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    assert "NO keys" in made.err
    bare = await tool("restore", "--host-data", tmp_path / "bare", tmp_path / "a.zip")
    assert "there are no keys" in bare.err
    assert not (tmp_path / "bare/keys.json").exists()
    keys = tmp_path / "old/keys.json"
    whole = await tool("restore", "--host-data", tmp_path / "whole", tmp_path / "a.zip", "--keys", keys)
    assert whole.code == 0
    assert "keys" not in whole.err
    assert (tmp_path / "whole/keys.json").read_bytes() == keys.read_bytes()


async def test_what_was_under_way_is_put_aside_by_a_restore(tmp_path: Path) -> None:
    def under_way(tx: Transaction) -> None:
        tx.execute("UPDATE deliveries SET state = 'pending' WHERE delivery_id = 'delivery_id-1'")
        tx.execute("UPDATE runs SET state = 'running' WHERE run_id = 'run_id-1'")
        tx.execute("UPDATE run_attempts SET state = 'live' WHERE run_id = 'run_id-1'")
        tx.execute("UPDATE runs SET state = 'queued' WHERE run_id = 'run_id-2'")
        tx.execute("UPDATE approvals SET state = 'pending' WHERE approval_id = 'approval_id-1'")

    await a_host(tmp_path / "old", under_way)
    assert (await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip")).code == 0
    done = (await tool("restore", "--json", "--host-data", tmp_path / "new", tmp_path / "a.zip")).json()
    assert (done["parked_deliveries"], done["ended_runs"]) == (1, 2)
    new = tmp_path / "new"
    assert await rows(new, "SELECT delivery_id, error_code FROM deliveries WHERE state = 'unknown'") == [
        ("delivery_id-1", "host.restored")
    ]
    assert await rows(new, "SELECT COUNT(*) FROM deliveries WHERE state = 'pending'") == [(0,)]
    ended = await rows(new, "SELECT run_id, error_code, retryable FROM runs WHERE state = 'failed' ORDER BY run_id")
    assert ended == [("run_id-1", "host.restored", 1), ("run_id-2", "host.restored", 1)]
    assert await rows(new, "SELECT COUNT(*) FROM run_events WHERE kind = 'run_failed'") == [(2,)]
    assert await rows(new, "SELECT COUNT(*) FROM run_attempts WHERE state = 'live'") == [(0,)]
    assert await rows(new, "SELECT COUNT(*) FROM approvals WHERE state = 'pending'") == [(0,)]
    assert await rows(new, "SELECT COUNT(*) FROM audit WHERE action = 'host.restore'") == [(3,)]
    # Every attempt of the old host, however often it was started since, is below the new epoch.
    ((epoch,),) = await rows(new, "SELECT MAX(epoch) FROM host_epochs")
    assert epoch > done["epoch"] > 1_000_000_000
    again = (await tool("restore", "--json", "--host-data", tmp_path / "again", tmp_path / "a.zip")).json()
    assert again["epoch"] >= done["epoch"]


async def test_a_move_goes_on_where_the_stopped_host_was(tmp_path: Path) -> None:
    def pending(tx: Transaction) -> None:
        tx.execute("UPDATE deliveries SET state = 'pending' WHERE delivery_id = 'delivery_id-1'")

    await a_host(tmp_path / "old", pending)
    assert (await tool("export", "--host-data", tmp_path / "old", tmp_path / "a.zip")).code == 0
    assert (await tool("import", "--moved", "--host-data", tmp_path / "new", tmp_path / "a.zip")).code == 0
    assert await rows(tmp_path / "new", "SELECT COUNT(*) FROM deliveries WHERE state = 'pending'") == [(1,)]
    old = await rows(tmp_path / "old", "SELECT MAX(epoch) FROM host_epochs")
    assert (await rows(tmp_path / "new", "SELECT MAX(epoch) FROM host_epochs"))[0][0] > old[0][0] - 1


async def test_a_restore_moves_nothing_aside_unless_told_to(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--include-keys")
    refused = await tool("restore", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    assert (refused.code, "--replace" in refused.err) == (1, True)
    async with opened(tmp_path / "old"):
        in_use = await tool("restore", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--replace")
        assert (in_use.code, "in use" in in_use.err) == (1, True)
    (tmp_path / "old/mark").touch()
    done = (await tool("restore", "--json", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--replace")).json()
    assert (Path(done["aside"]) / "mark").exists()
    assert not (tmp_path / "old/mark").exists()
    assert (await tool("check", "--host-data", tmp_path / "old")).code == 0
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letters.txt").touch()
    foreign = await tool("restore", "--host-data", tmp_path / "home", tmp_path / "a.zip", "--replace")
    assert (foreign.code, "not one of a host" in foreign.err) == (1, True)


def flipped(source: Path, target: Path, member: str) -> None:
    """The archive with one byte of a file changed, and a directory that fits: only the manifest can tell."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == member:
                content = content[:-1] + bytes([content[-1] ^ 1])
            new.writestr(name, content)


async def test_a_damaged_archive_changes_nothing(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--include-keys")
    await tool("export", "--host-data", tmp_path / "old", tmp_path / "e.zip", "--include-keys")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (blob,) = [name for name in archive.namelist() if name.startswith("blobs/")]
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bits.zip").write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    (tmp_path / "text.zip").write_text("no archive")
    for number, member in enumerate(("database/portway.db", blob, "keys.json")):
        flipped(tmp_path / "a.zip", tmp_path / f"member-{number}.zip", member)
    damaged = [tmp_path / f"{name}.zip" for name in ("cut", "bits", "text", "member-0", "member-1", "member-2")]
    before = sorted(path for path in (tmp_path / "old").rglob("*"))
    for archive_path in damaged:
        done = await tool("restore", "--host-data", tmp_path / "new", archive_path)
        assert (done.code, "Nothing was changed" in done.err) == (1, True), (archive_path, done.err)
        replaced = await tool("restore", "--host-data", tmp_path / "old", archive_path, "--replace")
        assert replaced.code == 1
        assert not (tmp_path / "new").exists()
        assert sorted(path for path in (tmp_path / "old").rglob("*")) == before
    flipped(tmp_path / "e.zip", tmp_path / "rows.zip", "tables/events.jsonl")
    done = await tool("import", "--host-data", tmp_path / "new", tmp_path / "rows.zip")
    assert (done.code, "damaged" in done.err) == (1, True)
    assert not (tmp_path / "new/portway.db").exists()


async def test_names_that_lead_elsewhere_are_no_blobs(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as old, zipfile.ZipFile(tmp_path / "evil.zip", "w") as new:
        for name in old.namelist():
            renamed = "blobs/../../../escaped" if name.startswith("blobs/") else name
            content = old.read(name)
            if name == "manifest.json":
                document = json.loads(content)
                members = document["members"]
                document["members"] = {
                    "blobs/../../../escaped" if key.startswith("blobs/") else key: value
                    for key, value in members.items()
                }
                content = json.dumps(document).encode()
            new.writestr(renamed, content)
    done = await tool("restore", "--host-data", tmp_path / "a/b/new", tmp_path / "evil.zip")
    assert (done.code, "is no blob" in done.err) == (1, True)
    assert "escaped" not in names_in(tmp_path)


async def test_a_newer_schema_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as old, zipfile.ZipFile(tmp_path / "newer.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(HEAD.encode(), b"9999") if name == "manifest.json" else content)
    done = await tool("restore", "--host-data", tmp_path / "new", tmp_path / "newer.zip")
    assert (done.code, "9999" in done.err, "Use that version" in done.err) == (1, True, True)
    assert not (tmp_path / "new").exists()


async def test_an_import_needs_an_empty_database_and_an_archive_is_never_overwritten(tmp_path: Path) -> None:
    await a_host(tmp_path / "old")
    await tool("export", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    again = await tool("export", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    assert (again.code, "is there already" in again.err) == (1, True)
    full = await tool("import", "--host-data", tmp_path / "old", tmp_path / "a.zip")
    assert (full.code, "has rows already" in full.err) == (1, True)
    wrong = await tool("restore", "--host-data", tmp_path / "new", tmp_path / "a.zip")
    assert (wrong.code, "portway db import" in wrong.err) == (1, True)
    nowhere = await tool("backup", "--host-data", tmp_path / "nowhere", tmp_path / "b.zip")
    assert (nowhere.code, "no database" in nowhere.err) == (3, True)
    assert not (tmp_path / "nowhere").exists()


def names_in(folder: Path) -> set[str]:
    """Of every file and folder below it."""
    return {path.name for path in folder.rglob("*")}


def private_text(file: Path) -> str:
    """Of a file that nobody else may read."""
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_text()


async def killed_at(process: asyncio.subprocess.Process, reached: Callable[[], bool]) -> bool:
    """Kill it as soon as the condition holds; false when it ended before."""
    while process.returncode is None:
        if await asyncio.to_thread(reached):
            break
        await asyncio.sleep(0)
    if process.returncode is None:
        process.kill()
    await process.communicate()
    return process.returncode == -9


def many(tx: Transaction) -> None:
    tx.execute(
        "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
        "INSERT INTO state (workspace_id, agent_id, scope, scope_key, key, value_json) "
        "SELECT 'w', 'a', 's', 'k', 'key-' || i, hex(randomblob(400)) FROM n"
    )


async def test_a_killed_backup_leaves_no_archive_and_the_next_one_is_made(tmp_path: Path) -> None:
    await a_host(tmp_path / "old", many)
    archive, copy = tmp_path / "a.zip", tmp_path / ".a.zip.database"
    stages: list[Callable[[], bool]] = [
        lambda: copy.with_name(copy.name + ".part").exists(),
        copy.exists,
        archive.with_name("a.zip.part").exists,
    ]
    for reached in stages:
        killed = False
        # On a busy machine it may have come to its end before anybody saw the stage: once more.
        while not killed or archive.exists():
            archive.unlink(missing_ok=True)
            killed = await killed_at(await begin("backup", "--host-data", tmp_path / "old", archive), reached)
    assert (await tool("backup", "--host-data", tmp_path / "old", archive)).code == 0
    assert set(os.listdir(tmp_path)) == {"a.zip", "old"}
    assert (await tool("restore", "--host-data", tmp_path / "new", archive)).code == 0


async def test_a_killed_restore_leaves_the_old_folder_or_the_whole_new_one(tmp_path: Path) -> None:
    await a_host(tmp_path / "old", many)
    await tool("backup", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--include-keys")
    shutil.copytree(tmp_path / "old", tmp_path / "host")
    (tmp_path / "host/mark").touch()
    staging = tmp_path / ".host.restoring"
    stages: list[Callable[[], bool]] = [
        staging.exists,
        (staging / "portway.db").exists,
        (staging / "keys.json").exists,
        (staging / "portway.db-wal").exists,
        lambda: not staging.exists() and any(tmp_path.glob("host.before-restore-*")),
    ]
    for reached in stages:
        process = await begin("restore", "--host-data", tmp_path / "host", tmp_path / "a.zip", "--replace")
        await killed_at(process, reached)
        assert (await tool("check", "--host-data", tmp_path / "host")).code == 0
        count = await rows(tmp_path / "host", "SELECT COUNT(*) FROM state")
        assert count == [(19_994,)]
        for name in names_in(tmp_path):
            if name.startswith("host.before-restore-"):
                shutil.rmtree(tmp_path / name)
    done = await tool("restore", "--host-data", tmp_path / "host", tmp_path / "a.zip", "--replace")
    assert done.code == 0, done.err
    assert not staging.exists()


async def test_a_killed_import_leaves_an_empty_database_that_can_be_imported_into(tmp_path: Path) -> None:
    await a_host(tmp_path / "old", many)
    await tool("export", "--host-data", tmp_path / "old", tmp_path / "a.zip", "--include-keys")
    new = tmp_path / "new"
    stages: list[Callable[[], bool]] = [
        (new / "portway.db").exists,
        (new / "keys.json").exists,
        lambda: size_of(new / "portway.db-wal") > 1_000_000,
    ]
    for reached in stages:
        while not await killed_amid_import(new, tmp_path / "a.zip", reached):
            shutil.rmtree(new)
    done = await tool("import", "--host-data", new, tmp_path / "a.zip")
    assert done.code == 0, done.err
    assert await rows(new, "SELECT COUNT(*) FROM state") == [(19_994,)]


async def killed_amid_import(new: Path, archive: Path, reached: Callable[[], bool]) -> bool:
    """False when it had come to its end before anybody saw the stage, or before the kill: then everything is there."""
    killed = await killed_at(await begin("import", "--host-data", new, archive), reached)
    (count,) = await rows(new, "SELECT COUNT(*) FROM state")
    assert count == (0,) and killed or count == (19_994,)
    return count == (0,)


async def test_a_vacuum_gives_space_back_and_the_size_is_told(tmp_path: Path) -> None:
    await a_host(tmp_path / "old", many)
    async with opened(tmp_path / "old") as database:
        await database.writer.run(lambda tx: tx.execute("DELETE FROM state WHERE workspace_id = 'w'"))
        busy = await tool("vacuum", "--host-data", tmp_path / "old")
        assert (busy.code, "in use" in busy.err) == (1, True)
    before = (await tool("size", "--json", "--host-data", tmp_path / "old")).json()
    assert before["free"] > 10_000_000
    done = (await tool("vacuum", "--json", "--host-data", tmp_path / "old")).json()
    assert done["after"] < done["before"] - 10_000_000
    after = (await tool("size", "--json", "--host-data", tmp_path / "old")).json()
    assert after["free"] < 100_000
    assert {table["table"] for table in after["tables"]} >= {"events", "runs", "transcript"}
    assert all(table["size"] for table in after["tables"] if table["rows"])


async def test_a_check_finds_missing_bytes_changed_bytes_and_a_damaged_file(tmp_path: Path) -> None:
    old = tmp_path / "old"
    await a_host(old)
    (blob,) = (path for path in (old / "blobs/w-default").rglob("*") if path.is_file())
    content = blob.read_bytes()
    blob.write_bytes(b"x" * len(content))
    changed = await tool("check", "--host-data", old)
    assert (changed.code, "not what they were" in changed.out) == (1, True)
    assert (await tool("check", "--quick", "--host-data", old)).code == 0
    refused = await tool("backup", "--host-data", old, tmp_path / "a.zip")
    assert (refused.code, "damaged" in refused.err) == (1, True)
    blob.unlink()
    missing = await tool("check", "--host-data", old)
    assert (missing.code, "are missing" in missing.out) == (1, True)
    warned = await tool("backup", "--host-data", old, tmp_path / "a.zip")
    assert (warned.code, "is missing" in warned.err) == (0, True)
    with closing(sqlite3.connect(old / "portway.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray((old / "portway.db").read_bytes())
    damaged[8192:40960] = b"\xff" * 32768
    (old / "portway.db").write_bytes(damaged)
    broken = await tool("check", "--host-data", old)
    assert (broken.code, "damaged" in broken.out) == (1, True)


async def test_a_lost_admin_token_is_replaced_on_the_hosts_machine(tmp_path: Path) -> None:
    await a_host(tmp_path / "data/host")
    async with opened(tmp_path / "data/host"):
        busy = await tool("reset-admin", "--data", tmp_path / "data")
        assert (busy.code, "Stop that one" in busy.err) == (1, True)
    done = (await tool("reset-admin", "--json", "--data", tmp_path / "data")).json()
    file = Path(done["file"])
    assert file == tmp_path / "data/admin.token"
    assert private_text(file).startswith("pw_admin_")
    told = await rows(tmp_path / "data/host", "SELECT resource FROM audit WHERE action = 'token.reset_admin'")
    assert told == [(done["token_id"],)]
    second = (await tool("reset-admin", "--json", "--revoke-others", "--data", tmp_path / "data")).json()
    assert second["revoked"] == 1
