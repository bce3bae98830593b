"""The stores of a host, on its database and its folder."""

from pathlib import Path

from portway.rpc.cursor import CursorCodec
from portway.server.agents.store import StoredAgents
from portway.server.artifacts.store import StoredArtifacts
from portway.server.bindings.store import StoredBindings
from portway.server.conversations.store import StoredConversations
from portway.server.deliveries.store import StoredDeliveries
from portway.server.effects.store import StoredEffects
from portway.server.events.store import StoredEventLog
from portway.server.parts import Stores
from portway.server.runs.store import StoredRuns
from portway.server.secrets.store import StoredSecrets
from portway.server.state.store import StoredState
from portway.server.storage.store import StoredStorage
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import load_keyring
from portway.server.tokens.store import StoredTokens
from portway.server.transcript.store import StoredTranscript


def open_stores(data: Path, database: Database) -> Stores:
    """`data` is the host's own folder."""
    keyring = load_keyring(data / "keys.json")
    reader = database.reader
    return Stores(
        database=database,
        keyring=keyring,
        cursors=CursorCodec(keyring.derive("cursors")),
        blobs=Blobs(data / "blobs"),
        events=StoredEventLog(reader),
        conversations=StoredConversations(reader),
        transcript=StoredTranscript(reader),
        runs=StoredRuns(reader),
        deliveries=StoredDeliveries(reader),
        effects=StoredEffects(reader),
        artifacts=StoredArtifacts(reader),
        state=StoredState(reader),
        storage=StoredStorage(reader),
        agents=StoredAgents(reader),
        bindings=StoredBindings(reader),
        tokens=StoredTokens(reader),
        secrets=StoredSecrets(reader, keyring),
    )
