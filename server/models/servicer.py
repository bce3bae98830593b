"""ModelService on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Never, TypeVar

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.models.admin_wire import model_to_wire, price_to_wire, provider_to_wire, trial_to_wire
from portway.server.models.kept.manage import ModelManager
from portway.server.models.kept.wire import model_draft, prices_from_wire, provider_draft
from portway.server.models.registry import ModelRegistry, WorkspaceModels
from portway.server.models.try_out import try_out
from portway.server.models.types import ModelInfo
from portway.v1 import model_pb2

DEFAULT_PAGE = 50

T = TypeVar("T")


class ModelServicer:
    """The models of the host are those of every workspace; a workspace may have more."""

    def __init__(self, models: WorkspaceModels, manager: ModelManager, cursors: CursorCodec) -> None:
        self._models = models
        self._manager = manager
        self._cursors = cursors

    async def CreateModelProvider(
        self, request: model_pb2.CreateModelProviderRequest, call: Call[Never, Never]
    ) -> model_pb2.CreateModelProviderResponse:
        draft = provider_draft(request.model_provider)
        made = await self._manager.create_provider(call.caller, draft, request.request_id)
        return model_pb2.CreateModelProviderResponse(model_provider=provider_to_wire(made))

    async def UpdateModelProvider(
        self, request: model_pb2.UpdateModelProviderRequest, call: Call[Never, Never]
    ) -> model_pb2.UpdateModelProviderResponse:
        draft = provider_draft(request.model_provider, remove_api_key=request.remove_api_key)
        changed = await self._manager.update_provider(call.caller, draft)
        return model_pb2.UpdateModelProviderResponse(model_provider=provider_to_wire(changed))

    async def DeleteModelProvider(
        self, request: model_pb2.DeleteModelProviderRequest, call: Call[Never, Never]
    ) -> model_pb2.DeleteModelProviderResponse:
        await self._manager.delete_provider(call.caller, request.provider_id)
        return model_pb2.DeleteModelProviderResponse()

    async def CreateModel(
        self, request: model_pb2.CreateModelRequest, call: Call[Never, Never]
    ) -> model_pb2.CreateModelResponse:
        made = await self._manager.create_model(call.caller, model_draft(request.model), request.request_id)
        return model_pb2.CreateModelResponse(model=self._model(made, call))

    async def UpdateModel(
        self, request: model_pb2.UpdateModelRequest, call: Call[Never, Never]
    ) -> model_pb2.UpdateModelResponse:
        changed = await self._manager.update_model(call.caller, model_draft(request.model))
        return model_pb2.UpdateModelResponse(model=self._model(changed, call))

    async def DeleteModel(
        self, request: model_pb2.DeleteModelRequest, call: Call[Never, Never]
    ) -> model_pb2.DeleteModelResponse:
        await self._manager.delete_model(call.caller, request.model_id)
        return model_pb2.DeleteModelResponse()

    async def ListPrices(
        self, request: model_pb2.ListPricesRequest, call: Call[Never, Never]
    ) -> model_pb2.ListPricesResponse:
        table = self._of(call).prices
        listing = f"model prices\0{call.caller.workspace_id}"
        page, token = self._page(sorted(table.prices), str, listing, request.page_token, request.page_size)
        return model_pb2.ListPricesResponse(
            prices=[price_to_wire(name, table.prices[name]) for name in page],
            version=table.version,
            next_page_token=token,
            revision=table.revision,
        )

    async def SetPrices(
        self, request: model_pb2.SetPricesRequest, call: Call[Never, Never]
    ) -> model_pb2.SetPricesResponse:
        revision = await self._manager.set_prices(call.caller, prices_from_wire(request.prices), request.revision)
        return model_pb2.SetPricesResponse(version=self._of(call).prices.version, revision=revision)

    async def GetModel(
        self, request: model_pb2.GetModelRequest, call: Call[Never, Never]
    ) -> model_pb2.GetModelResponse:
        return model_pb2.GetModelResponse(model=self._model(self._of(call).model(request.model_id), call))

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, call: Call[Never, Never]
    ) -> model_pb2.ListModelsResponse:
        wanted = request.provider_id
        infos = [info for info in self._of(call).models() if wanted in ("", info.provider_id)]
        listing = f"models\0{call.caller.workspace_id}\0{wanted}"
        page, token = self._page(infos, lambda info: info.model_id, listing, request.page_token, request.page_size)
        models = [self._model(info, call) for info in page]
        return model_pb2.ListModelsResponse(models=models, next_page_token=token)

    async def GetModelProvider(
        self, request: model_pb2.GetModelProviderRequest, call: Call[Never, Never]
    ) -> model_pb2.GetModelProviderResponse:
        info = self._of(call).provider(request.provider_id)
        return model_pb2.GetModelProviderResponse(model_provider=provider_to_wire(info))

    async def ListModelProviders(
        self, request: model_pb2.ListModelProvidersRequest, call: Call[Never, Never]
    ) -> model_pb2.ListModelProvidersResponse:
        infos = self._of(call).providers()
        listing = f"model providers\0{call.caller.workspace_id}"
        page, token = self._page(infos, lambda info: info.provider_id, listing, request.page_token, request.page_size)
        providers = [provider_to_wire(info) for info in page]
        return model_pb2.ListModelProvidersResponse(model_providers=providers, next_page_token=token)

    async def TestModel(
        self, request: model_pb2.TestModelRequest, call: Call[Never, Never]
    ) -> model_pb2.TestModelResponse:
        registry = self._of(call)
        model = registry.resolve(request.model_id, registry.model(request.model_id).kind)
        return trial_to_wire(await try_out(model), request.model_id, registry.prices)

    def _of(self, call: Call[Never, Never]) -> ModelRegistry:
        return self._models.of(call.caller.workspace_id)

    def _model(self, info: ModelInfo, call: Call[Never, Never]) -> model_pb2.Model:
        return model_to_wire(info, self._of(call).default_model_id)

    def _page(
        self, items: Sequence[T], key: Callable[[T], str], listing: str, token: str, size: int
    ) -> tuple[Sequence[T], str]:
        """The items after the token's, which are ordered by their keys, and the token of the next page."""
        after = self._cursors.read_page(token, listing) if token else ""
        rest = [item for item in items if key(item) > after]
        page = rest[: size or DEFAULT_PAGE]
        return page, self._cursors.write_page(listing, key(page[-1])) if len(page) < len(rest) else ""
