"""What the tools work on: the folder of a host and the address of its database."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import NotFound, WrongState
from portway.server.config import read_config
from portway.server.storage_engine.database import DatabaseOptions
from portway.server.storage_engine.location import database_path, is_postgres
from portway.server.storage_engine.lock import FolderLock


@dataclass(frozen=True, slots=True)
class Place:
    """`data`: the host's own folder, with blobs and keys. `url`: its database."""

    data: Path
    url: str

    @property
    def sqlite(self) -> Path | None:
        """The database file; None where the database is a server."""
        return None if is_postgres(self.url) else database_path(self.url)

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def keys(self) -> Path:
        return self.data / "keys.json"

    @property
    def lock(self) -> FolderLock:
        """Held by whoever has the database open for writing."""
        file = self.sqlite
        return FolderLock(file.with_name(file.name + ".lock") if file else self.data / "portway.lock")

    @property
    def options(self) -> DatabaseOptions:
        """How it is opened."""
        return DatabaseOptions(url=self.url, folder=self.data)


def find_place(data: Path, own: Path | None, config: Path | None, environment: Mapping[str, str]) -> Place:
    """`data` as it is given to `portway up`, or `own`, the folder of a host alone.

    Raises ConfigurationError.
    """
    folder = own or data / "host"
    settings = read_config(config, environment, {"data": folder.absolute()}).host
    return Place(folder.absolute(), settings.database_url)


def must_exist(place: Place) -> None:
    """Raises NotFound without a database, so that a wrong path is not taken for an empty host."""
    if place.sqlite is not None and not place.sqlite.exists():
        raise NotFound(
            f"There is no database at {place.sqlite}. Name the folder with `--data` as for `portway up`, or with "
            "`--host-data` as for `portway host`."
        )


def is_running(place: Place) -> bool:
    """Whether a host of this folder has the database open."""
    place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with place.lock:
            return False
    except WrongState:
        return True
