"""Where providers, models and prices are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from portway.rpc.errors import Conflict, LimitExceeded, NotFound, Stale
from portway.server.models.kept.types import (
    MAX_MODELS,
    MAX_PROVIDERS,
    Kept,
    KeptModel,
    KeptPrices,
    KeptProvider,
    ModelSpec,
    ProviderSpec,
)
from portway.server.models.prices.types import Price
from portway.server.secrets.store import open_secrets
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.keyring import Keyring
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

SECRETS = "model_provider/"

_PROVIDER = columns(KeptProvider)
_MODEL = columns(KeptModel)
_OF = "workspace_id = :workspace_id AND"
_PROVIDER_BY_ID = f"SELECT {_PROVIDER} FROM model_providers WHERE {_OF} provider_id = :provider_id"
_MODEL_BY_ID = f"SELECT {_MODEL} FROM models WHERE {_OF} model_id = :model_id"
_COUNT_PROVIDERS = "SELECT COUNT(*) FROM model_providers WHERE workspace_id = :workspace_id"
_COUNT_MODELS = "SELECT COUNT(*) FROM models WHERE workspace_id = :workspace_id"
_ADD_PROVIDER = """
INSERT INTO model_providers (workspace_id, provider_id, revision, spec, create_time, update_time)
VALUES (:workspace_id, :provider_id, 1, :spec, :now, :now) ON CONFLICT DO NOTHING
"""
_CHANGE_PROVIDER = f"""
UPDATE model_providers SET spec = :spec, revision = revision + 1, update_time = :now
WHERE {_OF} provider_id = :provider_id AND (:expected = 0 OR revision = :expected) RETURNING {_PROVIDER}
"""
_REMOVE_PROVIDER = f"DELETE FROM model_providers WHERE {_OF} provider_id = :provider_id"
_ADD_MODEL = """
INSERT INTO models (workspace_id, model_id, provider_id, revision, is_default, spec, create_time, update_time)
VALUES (:workspace_id, :model_id, :provider_id, 1, :is_default, :spec, :now, :now) ON CONFLICT DO NOTHING
"""
_CHANGE_MODEL = f"""
UPDATE models SET provider_id = :provider_id, is_default = :is_default, spec = :spec, revision = revision + 1,
  update_time = :now
WHERE {_OF} model_id = :model_id AND (:expected = 0 OR revision = :expected) RETURNING {_MODEL}
"""
_REMOVE_MODEL = f"DELETE FROM models WHERE {_OF} model_id = :model_id"
_NO_DEFAULT = f"""
UPDATE models SET is_default = 0, revision = revision + 1, update_time = :now
WHERE {_OF} is_default = 1 AND model_id <> :model_id
"""
_OF_PROVIDER = f"SELECT model_id FROM models WHERE {_OF} provider_id = :provider_id ORDER BY model_id LIMIT 6"
_PRICES = "SELECT revision, prices FROM model_prices WHERE workspace_id = :workspace_id"
_SET_PRICES = """
INSERT INTO model_prices (workspace_id, revision, prices, update_time) VALUES (:workspace_id, 1, :prices, :now)
ON CONFLICT (workspace_id) DO UPDATE SET revision = model_prices.revision + 1, prices = :prices, update_time = :now
RETURNING revision
"""
# Everything of every workspace: it is held in memory, so that a model call asks no database.
_ALL_PROVIDERS = f"SELECT {_PROVIDER} FROM model_providers ORDER BY workspace_id, provider_id"
_ALL_MODELS = f"SELECT {_MODEL} FROM models ORDER BY workspace_id, model_id"
_ALL_PRICES = "SELECT workspace_id, revision, prices FROM model_prices ORDER BY workspace_id"
_VERSION = """
SELECT (SELECT COUNT(*) FROM model_providers), (SELECT COALESCE(SUM(revision), 0) FROM model_providers),
  (SELECT COALESCE(MAX(update_time), 0) FROM model_providers), (SELECT COUNT(*) FROM models),
  (SELECT COALESCE(SUM(revision), 0) FROM models), (SELECT COALESCE(MAX(update_time), 0) FROM models),
  (SELECT COALESCE(SUM(revision), 0) FROM model_prices), (SELECT COUNT(*) FROM model_prices)
"""


class KeptModels(Protocol):
    """What can be asked about them."""

    async def version(self) -> tuple[int, ...]:
        """Changes whenever something is written."""

    async def everything(self) -> Mapping[str, Kept]:
        """By workspace."""


def add_provider(tx: Transaction, workspace_id: str, provider_id: str, spec: ProviderSpec) -> KeptProvider:
    """Raises Conflict (id), LimitExceeded."""
    params = _params(tx, workspace_id, provider_id=provider_id, spec=to_json(spec))
    _refuse_more(tx, _COUNT_PROVIDERS, params, MAX_PROVIDERS, "model providers")
    if not tx.execute(_ADD_PROVIDER, params):
        raise Conflict(f"There is a model provider {provider_id!r} already. Choose another id, or update it.")
    return KeptProvider(workspace_id, provider_id, 1, spec, tx.now, tx.now)


def change_provider(
    tx: Transaction, workspace_id: str, provider_id: str, spec: ProviderSpec, expected_revision: int = 0
) -> KeptProvider:
    """Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params = _params(tx, workspace_id, provider_id=provider_id, spec=to_json(spec), expected=expected_revision)
    row = tx.one(_CHANGE_PROVIDER, params)
    if row is None:
        now = read_provider(tx, workspace_id, provider_id)
        raise _stale("model provider", provider_id, now.revision)
    return _provider(row)


def remove_provider(tx: Transaction, workspace_id: str, provider_id: str) -> None:
    """Raises NotFound."""
    if not tx.execute(_REMOVE_PROVIDER, {"workspace_id": workspace_id, "provider_id": provider_id}):
        raise NotFound.of("model provider", provider_id)


def read_provider(tx: ReadTransaction, workspace_id: str, provider_id: str) -> KeptProvider:
    """Raises NotFound."""
    row = tx.one(_PROVIDER_BY_ID, {"workspace_id": workspace_id, "provider_id": provider_id})
    if row is None:
        raise NotFound.of("model provider", provider_id)
    return _provider(row)


def models_of_provider(tx: ReadTransaction, workspace_id: str, provider_id: str) -> list[str]:
    """The first few."""
    return [row[0] for row in tx.all(_OF_PROVIDER, {"workspace_id": workspace_id, "provider_id": provider_id})]


def add_model(
    tx: Transaction, workspace_id: str, model_id: str, provider_id: str, spec: ModelSpec, *, is_default: bool = False
) -> KeptModel:
    """Raises Conflict (id), LimitExceeded. A new default takes the place of the old one."""
    params = _model_params(tx, workspace_id, model_id, provider_id, spec, is_default)
    _refuse_more(tx, _COUNT_MODELS, params, MAX_MODELS, "models")
    if is_default:
        tx.execute(_NO_DEFAULT, params)
    if not tx.execute(_ADD_MODEL, params):
        raise Conflict(f"There is a model {model_id!r} already. Choose another id, or update it.")
    return KeptModel(workspace_id, model_id, provider_id, 1, is_default, spec, tx.now, tx.now)


def change_model(
    tx: Transaction,
    workspace_id: str,
    model_id: str,
    provider_id: str,
    spec: ModelSpec,
    *,
    is_default: bool = False,
    expected_revision: int = 0,
) -> KeptModel:
    """Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params = _model_params(tx, workspace_id, model_id, provider_id, spec, is_default)
    params["expected"] = expected_revision
    before = read_model(tx, workspace_id, model_id)
    if expected_revision not in (0, before.revision):
        raise _stale("model", model_id, before.revision)
    if is_default:
        tx.execute(_NO_DEFAULT, params)
    row = tx.one(_CHANGE_MODEL, params)
    if row is None:
        raise _stale("model", model_id, before.revision)
    return _model(row)


def remove_model(tx: Transaction, workspace_id: str, model_id: str) -> None:
    """Raises NotFound."""
    if not tx.execute(_REMOVE_MODEL, {"workspace_id": workspace_id, "model_id": model_id}):
        raise NotFound.of("model", model_id)


def read_model(tx: ReadTransaction, workspace_id: str, model_id: str) -> KeptModel:
    """Raises NotFound."""
    row = tx.one(_MODEL_BY_ID, {"workspace_id": workspace_id, "model_id": model_id})
    if row is None:
        raise NotFound.of("model", model_id)
    return _model(row)


def set_prices(tx: Transaction, workspace_id: str, prices: Mapping[str, Price], expected_revision: int = 0) -> int:
    """Replaces them all; answers the new revision. Raises Stale."""
    before = read_prices(tx, workspace_id)
    if expected_revision not in (0, before.revision):
        raise Stale(f"The prices are at revision {before.revision} now. Read them again, then write.")
    text = to_json(dict(prices))
    row = tx.one(_SET_PRICES, {"workspace_id": workspace_id, "prices": text, "now": tx.now})
    assert row is not None
    return int(row[0])


def read_prices(tx: ReadTransaction, workspace_id: str) -> KeptPrices:
    """The workspace's own; revision 0 where it has none."""
    row = tx.one(_PRICES, {"workspace_id": workspace_id})
    return KeptPrices() if row is None else KeptPrices(row[0], _price_list(row[1]))


class StoredModels:
    """Providers, models and prices in the database."""

    def __init__(self, reader: Reader, keyring: Keyring) -> None:
        self._reader = reader
        self._keyring = keyring

    async def version(self) -> tuple[int, ...]:
        row = await self._reader.run(lambda tx: tx.one(_VERSION))
        return tuple(int(one) for one in row or ())

    async def everything(self) -> Mapping[str, Kept]:
        return await self._reader.run(self._everything)

    def _everything(self, tx: ReadTransaction) -> Mapping[str, Kept]:
        providers = [_provider(row) for row in tx.all(_ALL_PROVIDERS)]
        models = [_model(row) for row in tx.all(_ALL_MODELS)]
        prices = {row[0]: KeptPrices(row[1], _price_list(row[2])) for row in tx.all(_ALL_PRICES)}
        keys = open_secrets(tx, self._keyring, SECRETS) if providers else {}
        workspaces = {one.workspace_id for one in providers} | {one.workspace_id for one in models} | set(prices)
        return {
            workspace_id: Kept(
                tuple(one for one in providers if one.workspace_id == workspace_id),
                tuple(one for one in models if one.workspace_id == workspace_id),
                prices.get(workspace_id, KeptPrices()),
                {name.removeprefix(SECRETS): key for (owner, name), key in keys.items() if owner == workspace_id},
            )
            for workspace_id in workspaces
        }


def _provider(row: Row) -> KeptProvider:
    return KeptProvider(row[0], row[1], row[2], from_json(ProviderSpec, row[3]), row[4], row[5])


def _model(row: Row) -> KeptModel:
    return KeptModel(row[0], row[1], row[2], row[3], bool(row[4]), from_json(ModelSpec, row[5]), row[6], row[7])


def _price_list(text: str) -> Mapping[str, Price]:
    return from_json(KeptPrices, f'{{"prices":{text}}}').prices


def _params(tx: Transaction, workspace_id: str, **more: SqlValue) -> dict[str, SqlValue]:
    return {"workspace_id": workspace_id, "now": tx.now, **more}


def _model_params(
    tx: Transaction, workspace_id: str, model_id: str, provider_id: str, spec: ModelSpec, is_default: bool
) -> dict[str, SqlValue]:
    names: dict[str, SqlValue] = {"model_id": model_id, "provider_id": provider_id, "is_default": int(is_default)}
    return _params(tx, workspace_id, spec=to_json(spec), **names)


def _refuse_more(tx: Transaction, count: str, params: dict[str, SqlValue], limit: int, what: str) -> None:
    row = tx.one(count, params)
    if row is not None and row[0] >= limit:
        raise LimitExceeded(f"A workspace keeps at most {limit} {what}. Remove one first.")


def _stale(kind: str, name: str, revision: int) -> Stale:
    return Stale(f"The {kind} {name!r} is at revision {revision} now. Read it again, then write.")
