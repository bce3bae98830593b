"""ModelService on the wire: what is configured can be read and tried; it is changed in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Never, TypeVar

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.models.admin_wire import model_to_wire, provider_to_wire, trial_to_wire
from portway.server.models.registry import ModelRegistry
from portway.server.models.try_out import try_out
from portway.v1 import model_pb2

DEFAULT_PAGE = 50

T = TypeVar("T")


class ModelServicer:
    """The models of the host are those of every workspace."""

    def __init__(self, registry: ModelRegistry, cursors: CursorCodec) -> None:
        self._registry = registry
        self._cursors = cursors

    async def GetModel(
        self, request: model_pb2.GetModelRequest, call: Call[Never, Never]
    ) -> model_pb2.GetModelResponse:
        info = self._registry.model(request.model_id)
        return model_pb2.GetModelResponse(model=model_to_wire(info, self._registry.default_model_id))

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, call: Call[Never, Never]
    ) -> model_pb2.ListModelsResponse:
        wanted = request.provider_id
        infos = [info for info in self._registry.models() if wanted in ("", info.provider_id)]
        listing = f"models\0{call.caller.workspace_id}\0{wanted}"
        page, token = self._page(infos, lambda info: info.model_id, listing, request.page_token, request.page_size)
        models = [model_to_wire(info, self._registry.default_model_id) for info in page]
        return model_pb2.ListModelsResponse(models=models, next_page_token=token)

    async def GetModelProvider(
        self, request: model_pb2.GetModelProviderRequest, call: Call[Never, Never]
    ) -> model_pb2.GetModelProviderResponse:
        info = self._registry.provider(request.provider_id)
        return model_pb2.GetModelProviderResponse(model_provider=provider_to_wire(info))

    async def ListModelProviders(
        self, request: model_pb2.ListModelProvidersRequest, call: Call[Never, Never]
    ) -> model_pb2.ListModelProvidersResponse:
        infos = self._registry.providers()
        listing = f"model providers\0{call.caller.workspace_id}"
        page, token = self._page(infos, lambda info: info.provider_id, listing, request.page_token, request.page_size)
        providers = [provider_to_wire(info) for info in page]
        return model_pb2.ListModelProvidersResponse(model_providers=providers, next_page_token=token)

    async def TestModel(
        self, request: model_pb2.TestModelRequest, call: Call[Never, Never]
    ) -> model_pb2.TestModelResponse:
        return trial_to_wire(await try_out(self._registry.resolve(request.model_id)), request.model_id)

    def _page(
        self, items: Sequence[T], key: Callable[[T], str], listing: str, token: str, size: int
    ) -> tuple[Sequence[T], str]:
        """The items after the token's, which are ordered by their keys, and the token of the next page."""
        after = self._cursors.read_page(token, listing) if token else ""
        rest = [item for item in items if key(item) > after]
        page = rest[: size or DEFAULT_PAGE]
        return page, self._cursors.write_page(listing, key(page[-1])) if len(page) < len(rest) else ""
