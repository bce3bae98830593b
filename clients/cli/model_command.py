"""`portway model`: list, providers, test, add, key, enable, disable, remove, prices."""

import os
import sys
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS, Portway
from portway.rpc.status import errors_by_meaning
from portway.v1 import binding_pb2, model_pb2

model = typer.Typer(no_args_is_help=True, help="Model providers, their keys, models and prices.")
Json = Annotated[bool, session.JSON_OPTION]
ModelId = Annotated[str, typer.Argument(help="Model id.")]
ProviderId = Annotated[str, typer.Argument(help="Provider id.")]
KeyFrom = Annotated[str, typer.Option("--key-env", help="Variable that holds the key; without it, it is asked for.")]

TEST_SECONDS = 90.0


def register(app: typer.Typer) -> None:
    app.add_typer(model, name="model")


@model.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model that agents may name."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found: list[model_pb2.Model] = []
                token = ""
                while True:
                    page = await host.models.ListModels(
                        model_pb2.ListModelsRequest(page_size=200, page_token=token), timeout=CALL_SECONDS
                    )
                    found += page.models
                    token = page.next_page_token
                    if not token:
                        break
        if as_json:
            session.print_json(found)
            return
        columns = ("model", "type", "provider", "name there", "window", "", "kept by")
        session.print_table(columns, [_row(one) for one in found])

    session.run(work)


@model.command()
def providers(as_json: Json = False) -> None:
    """Every provider, without its key."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.models.ListModelProviders(
                    model_pb2.ListModelProvidersRequest(page_size=200), timeout=CALL_SECONDS
                )
        if as_json:
            session.print_json(list(page.model_providers))
            return
        rows = [
            (
                one.provider_id,
                one.kind,
                one.base_url,
                "key" if one.has_api_key else "no key",
                "off" if one.disabled else "on",
                session.name_of(binding_pb2.ManagedBy.DESCRIPTOR, one.managed_by),
            )
            for one in page.model_providers
        ]
        session.print_table(("provider", "kind", "address", "", "", "kept by"), rows)

    session.run(work)


@model.command()
def test(model_id: ModelId, as_json: Json = False) -> None:
    """Ask the model something short; ends with 1 where it fails."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.models.TestModel(
                    model_pb2.TestModelRequest(model_id=model_id), timeout=TEST_SECONDS
                )
        if as_json:
            session.print_json(answer)
        elif answer.ok:
            typer.echo(f"{answer.text}\n({answer.latency.ToMilliseconds()} ms)")
        else:
            typer.echo(f"{answer.error.code}: {answer.error.message}", err=True)
        if not answer.ok:
            raise typer.Exit(1)

    session.run(work)


@model.command("add-provider")
def add_provider(
    provider_id: ProviderId,
    kind: Annotated[str, typer.Option(help="openai, anthropic, gemini, ollama, …")] = "openai",
    base_url: Annotated[str, typer.Option(help="Address; without it, the vendor's own.")] = "",
    key_env: KeyFrom = "",
    no_key: Annotated[bool, typer.Option("--no-key", help="It needs none.")] = False,
) -> None:
    """Set a provider up. The key is never an argument, which others on the machine could see."""
    key = "" if no_key else _key(key_env)

    async def work(endpoint: Endpoint) -> None:
        provider = model_pb2.ModelProvider(provider_id=provider_id, kind=kind, base_url=base_url, api_key=key)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.models.CreateModelProvider(
                    model_pb2.CreateModelProviderRequest(model_provider=provider), timeout=CALL_SECONDS
                )
        typer.echo(f"provider {provider_id} added; give it a model with `portway model add MODEL {provider_id}`")

    session.run(work)


@model.command()
def key(provider_id: ProviderId, key_env: KeyFrom = "") -> None:
    """Give a provider a new key; calls that begin from now on use it."""
    new = _key(key_env)

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = await host.models.GetModelProvider(
                    model_pb2.GetModelProviderRequest(provider_id=provider_id), timeout=CALL_SECONDS
                )
                found.model_provider.api_key = new
                await host.models.UpdateModelProvider(
                    model_pb2.UpdateModelProviderRequest(model_provider=found.model_provider), timeout=CALL_SECONDS
                )
        typer.echo(f"provider {provider_id} has a new key")

    session.run(work)


@model.command()
def add(
    model_id: ModelId,
    provider_id: ProviderId,
    name: Annotated[str, typer.Option(help="What the provider calls it; the same if left out.")] = "",
    kind: Annotated[str, typer.Option("--type", help="llm, embedding or rerank.")] = "llm",
    context_window: Annotated[int, typer.Option(min=0, help="Tokens; 0: unknown.")] = 0,
    vision: Annotated[bool, typer.Option("--vision", help="It understands pictures.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="It calls tools.")] = False,
    default: Annotated[bool, typer.Option("--default", help="For agents that name none.")] = False,
) -> None:
    """Offer a model of a provider to agents."""

    async def work(endpoint: Endpoint) -> None:
        wanted = model_pb2.Model(
            model_id=model_id,
            provider_id=provider_id,
            name=name,
            type=model_pb2.ModelType.ValueType(session.value_of(model_pb2.ModelType.DESCRIPTOR, kind, "type")),
            context_window=context_window,
            vision=vision,
            tool_calling=tools,
            is_default=default,
        )
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.models.CreateModel(model_pb2.CreateModelRequest(model=wanted), timeout=CALL_SECONDS)
        typer.echo(f"model {model_id} added; `portway model test {model_id}` tries it")

    session.run(work)


@model.command()
def enable(model_id: ModelId) -> None:
    """Switch a model on."""
    _switch(model_id, disabled=False)


@model.command()
def disable(model_id: ModelId) -> None:
    """Switch a model off; runs that ask for it are told."""
    _switch(model_id, disabled=True)


@model.command()
def remove(model_id: ModelId) -> None:
    """Remove a model that no agent names."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.models.DeleteModel(model_pb2.DeleteModelRequest(model_id=model_id), timeout=CALL_SECONDS)
        typer.echo(f"model {model_id} removed")

    session.run(work)


@model.command("remove-provider")
def remove_provider(provider_id: ProviderId) -> None:
    """Remove a provider without models, and its key."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.models.DeleteModelProvider(
                    model_pb2.DeleteModelProviderRequest(provider_id=provider_id), timeout=CALL_SECONDS
                )
        typer.echo(f"provider {provider_id} removed")

    session.run(work)


@model.command()
def prices(as_json: Json = False) -> None:
    """What models cost, for a million tokens."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.models.ListPrices(model_pb2.ListPricesRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(page)
            return
        rows = [
            (
                one.model_id,
                *(f"{micros / 1e6:g}" for micros in (one.input_micros, one.cached_input_micros, one.output_micros)),
                one.currency,
                session.name_of(binding_pb2.ManagedBy.DESCRIPTOR, one.managed_by),
            )
            for one in page.prices
        ]
        session.print_table(("model", "input", "cached", "output", "", "kept by"), rows)
        typer.echo(f"version {page.version}")

    session.run(work)


def _switch(model_id: str, *, disabled: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            await _change(host, model_id, disabled)
        typer.echo(f"model {model_id} is {'off' if disabled else 'on'}")

    session.run(work)


async def _change(host: Portway, model_id: str, disabled: bool) -> None:
    with errors_by_meaning():
        found = await host.models.GetModel(model_pb2.GetModelRequest(model_id=model_id), timeout=CALL_SECONDS)
        found.model.disabled = disabled
        await host.models.UpdateModel(model_pb2.UpdateModelRequest(model=found.model), timeout=CALL_SECONDS)


def _key(variable: str) -> str:
    if variable:
        found = os.environ.get(variable, "")
        if not found:
            typer.echo(f"portway: the variable {variable} is not set", err=True)
            raise typer.Exit(2)
        return found
    if sys.stdin.isatty():
        return str(typer.prompt("key", hide_input=True))
    return sys.stdin.readline().strip()


def _row(one: model_pb2.Model) -> tuple[str, ...]:
    return (
        one.model_id,
        session.name_of(model_pb2.ModelType.DESCRIPTOR, one.type),
        one.provider_id,
        one.name,
        str(one.context_window or "?"),
        "off" if one.disabled else "default" if one.is_default else "",
        session.name_of(binding_pb2.ManagedBy.DESCRIPTOR, one.managed_by),
    )
