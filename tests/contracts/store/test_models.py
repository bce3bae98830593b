"""Model providers, models and prices, as they are kept."""

from pathlib import Path

import pytest

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.models.kept.store import (
    StoredModels,
    add_model,
    add_provider,
    change_model,
    change_provider,
    models_of_provider,
    read_model,
    read_prices,
    read_provider,
    remove_model,
    remove_provider,
    set_prices,
)
from portway.server.models.kept.types import Kept, KeptPrices, ModelSpec, ProviderSpec
from portway.server.models.prices.types import Price
from portway.server.models.types import Capability, ModelKind
from portway.server.models.vendors import ProviderKind
from portway.server.secrets.store import put_secret
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import load_keyring
from tests.contracts.store.given import WORKSPACE

PROVIDER = ProviderSpec(ProviderKind.OPENAI, "https://models.example/v1", 4, 60)
MODEL = ModelSpec("vendor/small", ModelKind.EMBEDDING, 1000, 0, (Capability.TOOLS,), 256)


async def test_a_provider_is_read_back_changed_and_removed(database: Database) -> None:
    run, read = database.writer.run, database.reader.run
    added = await run(lambda tx: add_provider(tx, WORKSPACE, "main", PROVIDER))
    assert await read(lambda tx: read_provider(tx, WORKSPACE, "main")) == added
    with pytest.raises(NotFound):
        await read(lambda tx: read_provider(tx, "other", "main"))
    with pytest.raises(Conflict):
        await run(lambda tx: add_provider(tx, WORKSPACE, "main", PROVIDER))
    off = ProviderSpec(ProviderKind.OLLAMA, disabled=True)
    changed = await run(lambda tx: change_provider(tx, WORKSPACE, "main", off, 1))
    assert (changed.revision, changed.spec) == (2, off)
    with pytest.raises(Stale):
        await run(lambda tx: change_provider(tx, WORKSPACE, "main", off, 1))
    with pytest.raises(NotFound):
        await run(lambda tx: change_provider(tx, "other", "main", off))
    await run(lambda tx: remove_provider(tx, WORKSPACE, "main"))
    with pytest.raises(NotFound):
        await run(lambda tx: remove_provider(tx, WORKSPACE, "main"))


async def test_a_model_is_read_back_and_one_alone_is_the_default(database: Database) -> None:
    run, read = database.writer.run, database.reader.run
    await run(lambda tx: add_provider(tx, WORKSPACE, "main", PROVIDER))
    first = await run(lambda tx: add_model(tx, WORKSPACE, "a/1", "main", MODEL, is_default=True))
    assert await read(lambda tx: read_model(tx, WORKSPACE, "a/1")) == first
    await run(lambda tx: add_model(tx, WORKSPACE, "b", "main", ModelSpec(), is_default=True))
    assert not (await read(lambda tx: read_model(tx, WORKSPACE, "a/1"))).is_default
    await run(lambda tx: change_model(tx, WORKSPACE, "a/1", "main", MODEL, is_default=True))
    assert not (await read(lambda tx: read_model(tx, WORKSPACE, "b"))).is_default
    await run(lambda tx: add_model(tx, "other", "a/1", "main", MODEL, is_default=True))
    with pytest.raises(Conflict):
        await run(lambda tx: add_model(tx, WORKSPACE, "b", "main", MODEL))
    with pytest.raises(Stale):
        await run(lambda tx: change_model(tx, WORKSPACE, "b", "main", MODEL, expected_revision=1))
    assert await read(lambda tx: models_of_provider(tx, WORKSPACE, "main")) == ["a/1", "b"]
    await run(lambda tx: remove_model(tx, WORKSPACE, "b"))
    with pytest.raises(NotFound):
        await run(lambda tx: remove_model(tx, WORKSPACE, "b"))


async def test_prices_are_replaced_whole_and_have_a_revision(database: Database) -> None:
    run, read = database.writer.run, database.reader.run
    assert await read(lambda tx: read_prices(tx, WORKSPACE)) == KeptPrices()
    prices = {"a": Price(1, 2, 3, 4, "EUR")}
    assert await run(lambda tx: set_prices(tx, WORKSPACE, prices)) == 1
    assert await read(lambda tx: read_prices(tx, WORKSPACE)) == KeptPrices(1, prices)
    assert await run(lambda tx: set_prices(tx, WORKSPACE, {}, 1)) == 2
    with pytest.raises(Stale):
        await run(lambda tx: set_prices(tx, WORKSPACE, prices, 1))
    assert await read(lambda tx: read_prices(tx, "other")) == KeptPrices()


async def test_everything_is_read_at_once_with_keys_and_its_version_tells_of_changes(
    database: Database, tmp_path: Path
) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    stored, run = StoredModels(database.reader, keyring), database.writer.run
    assert await stored.everything() == {}
    versions = [await stored.version()]
    provider = await run(lambda tx: add_provider(tx, WORKSPACE, "main", PROVIDER))
    versions.append(await stored.version())
    model = await run(lambda tx: add_model(tx, WORKSPACE, "m", "main", MODEL))
    versions.append(await stored.version())
    await run(lambda tx: set_prices(tx, "other", {"m": Price(1)}))
    versions.append(await stored.version())
    await run(lambda tx: put_secret(tx, keyring, WORKSPACE, "model_provider/main", "the key"))
    await run(lambda tx: put_secret(tx, keyring, WORKSPACE, "agent/a/key", "not this"))
    assert len(set(versions)) == 4
    found = await stored.everything()
    assert found[WORKSPACE] == Kept((provider,), (model,), KeptPrices(), {"main": "the key"})
    assert found["other"].prices == KeptPrices(1, {"m": Price(1)})
    assert "the key" not in repr(found)
    lost = StoredModels(database.reader, load_keyring(tmp_path / "other-keys.json"))
    assert (await lost.everything())[WORKSPACE].keys == {}
