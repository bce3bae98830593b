"""Secrets in the configurations of agents: kept apart and encrypted, shown as a mask, given back to runs alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput
from portway.rpc.redaction import is_secret_key
from portway.server.runtimes.runner import FieldType, Runner
from portway.server.secrets.store import Secrets, put_secret, remove_secret
from portway.server.storage_engine.keyring import Keyring
from portway.server.storage_engine.transaction import Transaction

MASK = "********"
_PLACE = "$secret"


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """What is stored of a configuration: where the secrets were there are names, and the secrets are beside it.

    `dropped` are names of secrets that nothing refers to any more.
    """

    config_json: str
    secrets: Mapping[str, str]
    dropped: tuple[str, ...] = ()


class ConfigSecrets:
    """Takes secrets out of configurations and puts them back."""

    def __init__(self, secrets: Secrets, keyring: Keyring) -> None:
        self._secrets = secrets
        self._keyring = keyring

    async def reveal(self, workspace_id: str, config_json: str) -> str:
        """The configuration as a run gets it. Raises NotFound, DataLoss when a secret is gone."""
        if _PLACE not in config_json:
            return config_json
        config = json.loads(config_json)
        for name, secret_id in places_of(config_json):
            config[name] = (await self._secrets.secret(workspace_id, secret_id)).value
        return json.dumps(config, ensure_ascii=False)

    def keep(self, tx: Transaction, workspace_id: str, stored: StoredConfig) -> None:
        """In the unit that writes the agent."""
        for secret_id, value in stored.secrets.items():
            put_secret(tx, self._keyring, workspace_id, secret_id, value)
        for secret_id in stored.dropped:
            remove_secret(tx, workspace_id, secret_id)


def take_secrets(
    agent_id: str, config: Mapping[str, object], runner: Runner | None, before_json: str = "{}"
) -> StoredConfig:
    """Take the secrets out. A masked value leaves the secret as it was before.

    Without a runner to ask (it is not there yet), the names of fields tell which ones are secrets.
    """
    before = dict(places_of(before_json))
    kept: dict[str, object] = {}
    secrets: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict) and _PLACE in value:
            # It would hand out the secret of whatever it names.
            raise InvalidInput.field(f"agent.config.{name}", f"must not hold {_PLACE!r}")
        if not isinstance(value, str) or not value or not _is_secret(name, runner):
            kept[name] = value
            continue
        secret_id = f"agent/{agent_id}/{name}"
        if value != MASK:
            secrets[secret_id] = value
        elif name not in before:
            raise InvalidInput.field(f"agent.config.{name}", "is masked, and there is no secret to leave as it was")
        kept[name] = {_PLACE: secret_id}
    stored = json.dumps(kept, ensure_ascii=False, sort_keys=True)
    named = {secret_id for _, secret_id in places_of(stored)}
    return StoredConfig(stored, secrets, tuple(one for one in before.values() if one not in named))


def masked(config_json: str) -> dict[str, object]:
    """The configuration as it may be shown."""
    config: dict[str, object] = json.loads(config_json)
    for name, _ in places_of(config_json):
        config[name] = MASK
    return config


def places_of(config_json: str) -> Iterator[tuple[str, str]]:
    """(field, name of its secret) of every secret in a stored configuration."""
    if _PLACE not in config_json:
        return
    for name, value in json.loads(config_json).items():
        if isinstance(value, dict) and isinstance(value.get(_PLACE), str):
            yield name, value[_PLACE]


def _is_secret(name: str, runner: Runner | None) -> bool:
    if runner is None:
        # The value of something that has a name of its own, such as a header, is taken for a secret as well.
        return is_secret_key(name) or name.endswith("_value")
    return any(field.name == name and field.type is FieldType.SECRET for field in runner.config_fields)
