"""Putting erasures together."""

from portway.server.deliveries.outbox import Outbox
from portway.server.erasure.erase import Eraser
from portway.server.erasure.files import FileEraser
from portway.server.erasure.keep import ErasureKeeper
from portway.server.erasure.workspace import WorkspaceEraser
from portway.server.runs.cancel import Canceller
from portway.server.runs.open import OpenRuns
from portway.server.runs.store import Runs
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tools.box_client import BoxClient
from portway.server.workspaces.access import Access


def build_erasures(
    database: Database,
    access: Access,
    authenticator: TokenAuthenticator,
    runs: Runs,
    canceller: Canceller,
    outbox: Outbox,
    blobs: Blobs,
    box: BoxClient | None,
) -> ErasureKeeper:
    """`box` is None where there are no sandboxes."""
    open_runs = OpenRuns(runs, canceller)
    eraser = Eraser(database, open_runs, outbox, FileEraser(database, blobs))
    workspaces = WorkspaceEraser(database, open_runs, blobs, box)
    return ErasureKeeper(database, access, authenticator, open_runs, eraser, workspaces)
