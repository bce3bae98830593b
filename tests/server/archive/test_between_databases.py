"""An export moves a host between SQLite and PostgreSQL; on PostgreSQL a backup is made of rows."""

from pathlib import Path

from portway.server.archive.place import Place
from portway.server.archive.tables import shapes
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database, open_database
from tests.postgres import PostgresServer, needs_postgres
from tests.server.archive.everything import fill
from tests.server.archive.tools import Done, asked, tool

Content = dict[str, list[tuple[object, ...]]]
# The engine's own, and what a restore tells the audit.
OWN = {"host_epochs", "leases", "audit", "sequences"}


async def contents(database: Database) -> Content:
    found: Content = {}
    for shape in shapes():
        if shape.name not in OWN:
            names = ", ".join(f'"{column}"' for column in shape.columns)
            sql = f"SELECT {names} FROM {shape.name}"
            found[shape.name] = sorted(await asked(database, sql), key=repr)
    return found


def configured(folder: Path, url: str) -> Path:
    file = folder / "portway.yaml"
    file.write_text(f"host: {{database: '{url}'}}\n")
    return file


@needs_postgres
async def test_everything_moves_to_postgresql_and_back(
    tmp_path: Path, postgres: PostgresServer, postgres_database: str
) -> None:
    url = postgres.url(postgres_database)
    file = configured(tmp_path, url)
    server = Place(tmp_path / "there", url)
    old = Place(tmp_path / "old", f"sqlite:///{tmp_path}/old/portway.db")
    async with open_database(old.options) as database:
        await database.writer.run(fill)
        await database.writer.run(lambda tx: tx.execute("DELETE FROM secrets"))
        await Blobs(old.blobs).put("default", b"bytes")
        before = await contents(database)

    async def on_server(name: str, *more: str | Path) -> Done:
        done = await tool(name, "--config", file, "--host-data", server.data, *more)
        assert done.code == 0, done.err
        return done

    assert (await tool("export", "--host-data", old.data, tmp_path / "a.zip")).code == 0
    await on_server("import", "--moved", tmp_path / "a.zip")
    async with open_database(server.options) as database:
        assert await contents(database) == before
    again = await tool("import", "--config", file, "--host-data", server.data, tmp_path / "a.zip")
    assert (again.code, "has rows already" in again.err) == (1, True)
    assert "no damage" in (await on_server("check")).out
    sizes = {table["table"]: table for table in (await on_server("size", "--json")).json()["tables"]}
    assert sizes["events"]["rows"] == 3
    assert sizes["events"]["size"] > 0
    await on_server("backup", tmp_path / "b.zip")
    await on_server("export", tmp_path / "c.zip")
    new = Place(tmp_path / "new", f"sqlite:///{tmp_path}/new/portway.db")
    done = await tool("import", "--moved", "--host-data", new.data, tmp_path / "c.zip")
    assert done.code == 0, done.err
    async with open_database(new.options) as database:
        assert await contents(database) == before
    restored = await tool("restore", "--host-data", tmp_path / "restored", tmp_path / "b.zip")
    assert restored.code == 0, restored.err
    async with open_database(Place(new.data, f"sqlite:///{tmp_path}/restored/portway.db").options) as database:
        assert await contents(database) == before
