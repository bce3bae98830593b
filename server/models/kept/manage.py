"""Making, changing and removing providers, models and prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from portway.rpc.errors import Conflict, FieldViolation, InvalidInput, NotFound, Reason, WrongState
from portway.rpc.identity import Caller
from portway.rpc.ids import derived_id, new_id
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.models.checks import price_violations
from portway.server.models.kept import store
from portway.server.models.kept.checks import model_violations, moves_elsewhere, provider_violations
from portway.server.models.kept.directory import ModelDirectory
from portway.server.models.kept.types import ModelSpec, ProviderSpec
from portway.server.models.kept.uses import agents_that_name
from portway.server.models.prices.types import Price
from portway.server.models.types import ModelInfo, ProviderInfo
from portway.server.outbound.policy import OutboundPolicy
from portway.server.secrets.store import has_secret, put_secret, remove_secret
from portway.server.storage_engine.keyring import Keyring
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProviderDraft:
    """A provider as somebody wants it. An empty key leaves the kept one, unless it is to be removed."""

    provider_id: str
    spec: ProviderSpec
    api_key: str = field(default="", repr=False)
    revision: int = 0
    remove_api_key: bool = False


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """A model as somebody wants it."""

    model_id: str
    provider_id: str
    spec: ModelSpec
    is_default: bool = False
    revision: int = 0


class ModelManager:
    """Every change is audited in the transaction that makes it, and in force when it is answered."""

    def __init__(self, writer: Writer, directory: ModelDirectory, keyring: Keyring, outbound: OutboundPolicy) -> None:
        self._writer = writer
        self._directory = directory
        self._keyring = keyring
        self._outbound = outbound

    async def create_provider(self, caller: Caller, draft: ProviderDraft, request_id: str) -> ProviderInfo:
        """Raises InvalidInput with all violations, Conflict (id), LimitExceeded."""
        workspace_id = caller.workspace_id
        provider_id = draft.provider_id or _made("mpv", "model provider", workspace_id, request_id)
        _refuse(provider_violations(provider_id, draft.spec, draft.api_key, self._outbound))
        self._refuse_hosts(provider_id)

        def unit(tx: Transaction) -> None:
            try:
                store.add_provider(tx, workspace_id, provider_id, draft.spec)
            except Conflict:
                if request_id and store.read_provider(tx, workspace_id, provider_id).spec == draft.spec:
                    return
                raise
            if draft.api_key:
                put_secret(tx, self._keyring, workspace_id, _secret(provider_id), draft.api_key)
            append_audit(tx, [_record(caller, "model_provider.create", provider_id)])

        await self._write(unit)
        return self._directory.of(workspace_id).provider(provider_id)

    async def update_provider(self, caller: Caller, draft: ProviderDraft) -> ProviderInfo:
        """Raises as `create_provider`; NotFound; Stale (revision); WrongState (managed by the configuration file)."""
        workspace_id, provider_id = caller.workspace_id, draft.provider_id
        self._refuse_config("model provider", provider_id, self._host_has_provider(provider_id))

        def unit(tx: Transaction) -> None:
            before = store.read_provider(tx, workspace_id, provider_id)
            kept = has_secret(tx, workspace_id, _secret(provider_id)) and not draft.remove_api_key
            if kept and not draft.api_key and moves_elsewhere(before.spec, draft.spec):
                raise InvalidInput.field(
                    "model_provider.api_key",
                    "is needed again: the kept key is not sent to another place than the one it was given for",
                )
            known = draft.api_key or ("kept" if kept else "")
            _refuse(provider_violations(provider_id, draft.spec, known, self._outbound))
            store.change_provider(tx, workspace_id, provider_id, draft.spec, draft.revision)
            self._keep_key(tx, workspace_id, draft)
            action = "model_provider.rotate" if draft.api_key else "model_provider.update"
            append_audit(tx, [_record(caller, action, provider_id)])

        await self._write(unit)
        return self._directory.of(workspace_id).provider(provider_id)

    async def delete_provider(self, caller: Caller, provider_id: str) -> None:
        """Raises NotFound; WrongState (it has models, or is managed by the configuration file)."""
        workspace_id = caller.workspace_id
        self._refuse_config("model provider", provider_id, self._host_has_provider(provider_id))

        def unit(tx: Transaction) -> None:
            store.read_provider(tx, workspace_id, provider_id)
            models = store.models_of_provider(tx, workspace_id, provider_id)
            if models:
                raise WrongState(
                    f"The model provider {provider_id!r} has the models {', '.join(models[:5])}. Remove these first.",
                    reason=Reason.IN_USE,
                )
            store.remove_provider(tx, workspace_id, provider_id)
            if has_secret(tx, workspace_id, _secret(provider_id)):
                remove_secret(tx, workspace_id, _secret(provider_id))
            append_audit(tx, [_record(caller, "model_provider.delete", provider_id)])

        await self._write(unit)

    async def create_model(self, caller: Caller, draft: ModelDraft, request_id: str) -> ModelInfo:
        """Raises InvalidInput, NotFound (provider), Conflict (id), LimitExceeded, WrongState (a provider of the
        configuration file gets its models there)."""
        workspace_id = caller.workspace_id
        _refuse(model_violations(draft.model_id, draft.spec, draft.is_default))
        self._refuse_config("model provider", draft.provider_id, self._host_has_provider(draft.provider_id))
        for info in self._directory.host.models():
            if info.model_id == draft.model_id:
                raise Conflict(
                    f"{draft.model_id!r} is a model of the provider {info.provider_id!r}, which the host has for every "
                    f"workspace. Choose another id for the one of {draft.provider_id!r}."
                )

        def unit(tx: Transaction) -> None:
            store.read_provider(tx, workspace_id, draft.provider_id)
            try:
                store.add_model(
                    tx, workspace_id, draft.model_id, draft.provider_id, draft.spec, is_default=draft.is_default
                )
            except Conflict:
                earlier = store.read_model(tx, workspace_id, draft.model_id)
                if request_id and (earlier.provider_id, earlier.spec) == (draft.provider_id, draft.spec):
                    return
                raise Conflict(
                    f"{draft.model_id!r} is a model of the provider {earlier.provider_id!r} already. Choose another id "
                    f"for the one of {draft.provider_id!r}, or update it."
                ) from None
            append_audit(tx, [_record(caller, "model.create", draft.model_id)])

        await self._write(unit)
        return self._directory.of(workspace_id).model(draft.model_id)

    async def update_model(self, caller: Caller, draft: ModelDraft) -> ModelInfo:
        """Raises as `create_model`; NotFound; Stale (revision)."""
        workspace_id = caller.workspace_id
        self._refuse_config("model", draft.model_id, self._host_has_model(draft.model_id))
        _refuse(model_violations(draft.model_id, draft.spec, draft.is_default))

        def unit(tx: Transaction) -> None:
            store.read_provider(tx, workspace_id, draft.provider_id)
            store.change_model(
                tx,
                workspace_id,
                draft.model_id,
                draft.provider_id,
                draft.spec,
                is_default=draft.is_default,
                expected_revision=draft.revision,
            )
            append_audit(tx, [_record(caller, "model.update", draft.model_id)])

        await self._write(unit)
        return self._directory.of(workspace_id).model(draft.model_id)

    async def delete_model(self, caller: Caller, model_id: str) -> None:
        """Raises NotFound; WrongState (agents name it, it is the default, or the configuration file has it)."""
        workspace_id = caller.workspace_id
        self._refuse_config("model", model_id, self._host_has_model(model_id))

        def unit(tx: Transaction) -> None:
            found = store.read_model(tx, workspace_id, model_id)
            naming = agents_that_name(tx, workspace_id, model_id)
            if naming:
                raise WrongState(
                    f"The model {model_id!r} is named by the agents {', '.join(naming[:5])}. Change these first.",
                    reason=Reason.IN_USE,
                )
            if found.is_default:
                raise WrongState(
                    f"The model {model_id!r} is the default. Make another one the default first.", reason=Reason.IN_USE
                )
            store.remove_model(tx, workspace_id, model_id)
            append_audit(tx, [_record(caller, "model.delete", model_id)])

        await self._write(unit)

    async def set_prices(self, caller: Caller, prices: Mapping[str, Price], revision: int) -> int:
        """Answers the new revision. Raises InvalidInput, Stale."""
        known = {info.model_id for info in self._directory.of(caller.workspace_id).models()}
        found = [one for name, price in prices.items() for one in price_violations(f"prices[{name}]", price)]
        found += [FieldViolation("prices", f"there is no model {name!r}") for name in prices if name not in known]
        _refuse(found)

        def unit(tx: Transaction) -> int:
            made = store.set_prices(tx, caller.workspace_id, prices, revision)
            append_audit(tx, [_record(caller, "model_prices.set", str(made))])
            return made

        return await self._write(unit)

    async def _write(self, unit: Callable[[Transaction], T]) -> T:
        result = await self._writer.run(unit)
        await self._directory.reload()
        return result

    def _keep_key(self, tx: Transaction, workspace_id: str, draft: ProviderDraft) -> None:
        secret_id = _secret(draft.provider_id)
        if draft.api_key:
            put_secret(tx, self._keyring, workspace_id, secret_id, draft.api_key)
        elif draft.remove_api_key and has_secret(tx, workspace_id, secret_id):
            remove_secret(tx, workspace_id, secret_id)

    def _refuse_hosts(self, provider_id: str) -> None:
        if self._host_has_provider(provider_id):
            raise Conflict(f"The host has a model provider {provider_id!r} for every workspace. Choose another id.")

    def _host_has_provider(self, provider_id: str) -> bool:
        return any(info.provider_id == provider_id for info in self._directory.host.providers())

    def _host_has_model(self, model_id: str) -> bool:
        return any(info.model_id == model_id for info in self._directory.host.models())

    def _refuse_config(self, kind: str, name: str, is_hosts: bool) -> None:
        if not name:
            raise NotFound.of(kind, name)
        if is_hosts:
            raise WrongState(
                f"The {kind} {name!r} is the host's own, from the configuration file or built in, and can only be "
                "changed there.",
                reason=Reason.MANAGED_BY_CONFIG,
            )


def _secret(provider_id: str) -> str:
    return f"{store.SECRETS}{provider_id}"


def _made(prefix: str, kind: str, workspace_id: str, request_id: str) -> str:
    return derived_id(prefix, kind, workspace_id, request_id) if request_id else new_id(prefix)


def _refuse(found: list[FieldViolation]) -> None:
    if found:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in found), fields=found)


def _record(caller: Caller, action: str, resource: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=resource,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
    )
