"""What is asked of an archive before anything is touched."""

from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import WrongState
from portway.server.archive.manifest import Manifest
from portway.server.archive.place import Place
from portway.server.storage_engine.keyring import load_keyring
from portway.server.storage_engine.migrations.run import knows
from portway.server.storage_engine.upgrade import HEAD


def check_revision(manifest: Manifest) -> None:
    """Raises WrongState for a schema that this version does not know."""
    if not knows(manifest.revision):
        raise WrongState(
            f"The archive was made by Portway {manifest.portway} with schema {manifest.revision}; this version knows "
            f"{HEAD}. Use that version, or a newer one, to read it."
        )


def cursors_of(place: Place) -> CursorCodec | None:
    """The host's cursors where its keys are there."""
    return CursorCodec(load_keyring(place.keys).derive("cursors")) if place.keys.exists() else None
