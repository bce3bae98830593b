"""Answers a run's calls, in the order of the real host's checks: operation, resource, then the work."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from portway.rpc.call_errors import to_call_error
from portway.rpc.errors import Conflict, NotAvailable, NotFound, NotPermitted, PortwayError, Reason, Stale, WrongState
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.content import ArtifactRef
from portway.runtime.sdk.types.context import Permissions
from portway.runtime.sdk.types.convert import read, read_json, write
from portway.runtime.sdk.types.interactions import Interaction, PlatformAction
from portway.runtime.sdk.types.models import ModelAnswer, ModelRequest
from portway.runtime.sdk.types.pulled import KnowledgeHit, StorageArea, ToolResult, WantedApproval
from portway.v1 import run_call_pb2, run_model_pb2, run_pull_pb2

CHUNK_BYTES = 256 * 1024
_PERMISSION = {
    "invoke_model": "models_invoke",
    "stream_model": "models_stream",
    "rerank_documents": "models_rerank",
    "count_tokens": "models_count_tokens",
    "get_tool": "tools_detail",
    "call_tool": "tools_call",
    "list_knowledge_bases": "knowledge_bases_list",
    "retrieve_knowledge": "knowledge_bases_retrieve",
    "page_history": "history_page",
    "get_artifact": "artifacts_metadata",
    "read_artifact": "artifacts_read",
    "create_artifact": "artifacts_write",
    "get_state": "state",
    "set_state": "state",
    "delete_state": "state",
    "list_state": "state",
    "request_interaction": "interactions_request",
    "request_approval": "approvals_request",
}
_STORAGE = ("get_storage", "set_storage", "delete_storage", "list_storage")
_UPLOADS = ("create_artifact", "set_storage")
_FREE = ("pull_steering",)

Handler = Callable[[Any], AsyncIterator[Any]]


class FakeHost:
    """Holds one run's things. `answer` takes a whole call: the bytes of one that came in pieces are `pieces`."""

    def __init__(self, things: Things, permissions: Permissions) -> None:
        self.things = things
        self._permissions = permissions

    async def answer(self, call: run_call_pb2.RunCall, pieces: bytes = b"") -> AsyncIterator[run_call_pb2.RunAnswer]:
        kind = call.WhichOneof("kind") or ""
        try:
            self._check(kind, getattr(call, kind))
            handler: Handler | None = getattr(self, f"_{kind}", None)
            if handler is None or kind in self.things.missing_calls:
                raise NotAvailable(f"the fake host has no {kind}")
            request = getattr(call, kind)
            work = handler((request, pieces) if kind in _UPLOADS else request)
            async for response in work:
                yield run_call_pb2.RunAnswer(call_id=call.call_id, more=True, **{kind: response})
            yield run_call_pb2.RunAnswer(call_id=call.call_id)
        except PortwayError as error:
            self.things.refusals.append(error)
            yield run_call_pb2.RunAnswer(call_id=call.call_id, error=to_call_error(error))

    def _check(self, kind: str, request: Any) -> None:
        if kind in _FREE:
            return
        name = _PERMISSION.get(kind, "")
        if kind == "request_action":
            if request.action.action not in self._permissions.platform_actions:
                raise NotPermitted(f"the platform action {request.action.action!r} is not granted to this run")
            return
        if kind in _STORAGE:
            area = request.area if kind == "list_storage" else request.key.area
            name = f"storage_{StorageArea(area).name.lower()}"
        if not self._permissions.allow(name):
            raise NotPermitted(f"{kind} needs the permission {name.replace('_', '.', 1) or 'that nobody has'}")

    def _model(self, message: run_model_pb2.ModelRequest) -> ModelAnswer:
        request = read(ModelRequest, message)
        if request.model_id not in {model.model_id for model in self.things.models}:
            raise NotFound.of("model", request.model_id)
        self.things.model_requests.append(request)
        if self.things.model is None:
            raise NotAvailable("the test gives no model")
        answer = self.things.model(request)
        if isinstance(answer, PortwayError):
            raise answer
        return answer

    async def _invoke_model(self, request: run_model_pb2.InvokeModelRequest) -> AsyncIterator[Any]:
        response = run_model_pb2.InvokeModelResponse()
        write(self._model(request.request), response.answer)
        yield response

    async def _stream_model(self, request: run_model_pb2.StreamModelRequest) -> AsyncIterator[Any]:
        answer = self._model(request.request)
        words = answer.message.text.split(" ")
        for index, word in enumerate(words if answer.message.text else []):
            text = word if index == len(words) - 1 else f"{word} "
            yield run_model_pb2.StreamModelResponse(deltas=[run_model_pb2.ModelDelta(text=text)])
        last = run_model_pb2.StreamModelResponse()
        write(answer, last.answer)
        yield last

    async def _rerank_documents(self, request: run_model_pb2.RerankDocumentsRequest) -> AsyncIterator[Any]:
        if request.model_id not in {model.model_id for model in self.things.models}:
            raise NotFound.of("model", request.model_id)
        if self.things.rerank is None:
            raise NotAvailable("the test gives no reranker")
        scores = self.things.rerank(request.query, list(request.documents))
        if isinstance(scores, PortwayError):
            raise scores
        ranked = sorted(enumerate(scores), key=lambda one: -one[1])[: request.top_k or None]
        found = [run_model_pb2.RerankScore(index=index, score=score) for index, score in ranked]
        yield run_model_pb2.RerankDocumentsResponse(scores=found)

    async def _count_tokens(self, request: run_model_pb2.CountTokensRequest) -> AsyncIterator[Any]:
        if self.things.count_tokens is None:
            raise NotAvailable("the test counts no tokens")
        yield run_model_pb2.CountTokensResponse(
            input_tokens=self.things.count_tokens(read(ModelRequest, request.request))
        )

    async def _list_knowledge_bases(
        self, request: run_pull_pb2.RunnerServiceListKnowledgeBasesRequest
    ) -> AsyncIterator[Any]:
        response = run_pull_pb2.RunnerServiceListKnowledgeBasesResponse()
        for base in self.things.knowledge:
            response.knowledge_bases.add(knowledge_base_id=base, name=base)
        yield response

    async def _get_tool(self, request: run_pull_pb2.RunnerServiceGetToolRequest) -> AsyncIterator[Any]:
        for tool in self.things.tool_schemas:
            if tool.name == request.name:
                response = run_pull_pb2.RunnerServiceGetToolResponse()
                write(tool, response.tool)
                yield response
                return
        raise NotFound.of("tool", request.name)

    async def _call_tool(self, request: run_pull_pb2.RunnerServiceCallToolRequest) -> AsyncIterator[Any]:
        tool = self.things.tools.get(request.name)
        if tool is None:
            raise NotFound.of("tool", request.name)
        response = run_pull_pb2.RunnerServiceCallToolResponse()
        if request.call_id in self.things.tool_results:
            recorded = self.things.tool_results[request.call_id]
            if recorded is None:
                raise WrongState("the tool was interrupted and its result is lost", reason=Reason.EFFECT_UNKNOWN)
            write(recorded, response.result)
            response.result.replayed = True
            yield response
            return
        arguments = read_json(request.arguments)
        self.things.tool_calls.append((request.name, arguments, request.call_id))
        result = await tool(arguments)
        result = ToolResult(text=result) if isinstance(result, str) else result
        self.things.tool_results[request.call_id] = result
        write(result, response.result)
        yield response

    async def _page_history(self, request: run_pull_pb2.PageHistoryRequest) -> AsyncIterator[Any]:
        before = int(request.before or len(self.things.history))
        first = max(0, before - (request.limit or 50))
        response = run_pull_pb2.PageHistoryResponse(before_cursor=str(first) if first else "", has_more=first > 0)
        for item in self.things.history[first:before]:
            write(item, response.items.add())
        yield response

    async def _retrieve_knowledge(self, request: run_pull_pb2.RetrieveKnowledgeRequest) -> AsyncIterator[Any]:
        response = run_pull_pb2.RetrieveKnowledgeResponse()
        self.things.queries.append(request.query)
        hits: list[KnowledgeHit] = []
        for base in request.knowledge_base_ids:
            if base not in self.things.knowledge:
                raise NotFound.of("knowledge base", base)
            hits += self.things.knowledge[base]
        for hit in sorted(hits, key=lambda one: -one.score)[: request.top_k or 5]:
            write(hit, response.hits.add())
        yield response

    async def _get_artifact(self, request: run_pull_pb2.RunnerServiceGetArtifactRequest) -> AsyncIterator[Any]:
        response = run_pull_pb2.RunnerServiceGetArtifactResponse()
        write(self._artifact(request.artifact_id)[0], response.artifact)
        yield response

    async def _read_artifact(self, request: run_pull_pb2.RunnerServiceReadArtifactRequest) -> AsyncIterator[Any]:
        data = self._artifact(request.artifact_id)[1][request.offset : request.offset + request.length]
        for start in range(0, len(data), CHUNK_BYTES):
            yield run_pull_pb2.RunnerServiceReadArtifactResponse(data=data[start : start + CHUNK_BYTES])

    async def _create_artifact(
        self, sent: tuple[run_pull_pb2.RunnerServiceCreateArtifactRequest, bytes]
    ) -> AsyncIterator[Any]:
        first, data = sent
        wanted = read(ArtifactRef, first.artifact)
        artifact_id = f"art_{len(self.things.artifacts)}"
        kept = ArtifactRef(artifact_id, wanted.mime_type, wanted.name, len(data), summary=wanted.summary)
        self.things.artifacts[artifact_id] = (kept, data)
        response = run_pull_pb2.RunnerServiceCreateArtifactResponse()
        write(kept, response.artifact)
        yield response

    def _artifact(self, artifact_id: str) -> tuple[ArtifactRef, bytes]:
        if artifact_id not in self.things.artifacts:
            raise NotFound.of("artifact", artifact_id)
        return self.things.artifacts[artifact_id]

    async def _get_state(self, request: run_pull_pb2.GetStateRequest) -> AsyncIterator[Any]:
        found = self.things.state.get((request.scope, request.key))
        if found is None:
            raise NotFound.of("state value", request.key)
        response = run_pull_pb2.GetStateResponse()
        response.value.value_json, response.value.version = found
        yield response

    async def _set_state(self, request: run_pull_pb2.SetStateRequest) -> AsyncIterator[Any]:
        version = self._state_version(request)
        json.loads(request.value_json)
        self.things.state[request.scope, request.key] = (request.value_json, version + 1)
        yield run_pull_pb2.SetStateResponse(version=version + 1)

    async def _delete_state(self, request: run_pull_pb2.DeleteStateRequest) -> AsyncIterator[Any]:
        self._state_version(request)
        self.things.state.pop((request.scope, request.key), None)
        yield run_pull_pb2.DeleteStateResponse()

    def _state_version(self, request: Any) -> int:
        version = self.things.state.get((request.scope, request.key), ("", 0))[1]
        if request.HasField("expected_version") and request.expected_version != version:
            raise Stale(f"the value of {request.key!r} has version {version}; read it again")
        return version

    async def _list_state(self, request: run_pull_pb2.ListStateRequest) -> AsyncIterator[Any]:
        response = run_pull_pb2.ListStateResponse()
        for (scope, key), (value, version) in sorted(self.things.state.items()):
            if scope == request.scope and key.startswith(request.prefix) and key > request.after_key:
                response.values[key].value_json, response.values[key].version = value, version
        yield response

    async def _get_storage(self, request: run_pull_pb2.GetStorageRequest) -> AsyncIterator[Any]:
        data = self.things.storage.get((request.key.area, request.key.key))
        if data is None:
            raise NotFound.of("stored value", request.key.key)
        for start in range(0, max(1, len(data)), CHUNK_BYTES):
            yield run_pull_pb2.GetStorageResponse(data=data[start : start + CHUNK_BYTES], size=len(data))

    async def _set_storage(self, sent: tuple[run_pull_pb2.SetStorageRequest, bytes]) -> AsyncIterator[Any]:
        first, data = sent
        self.things.storage[first.key.area, first.key.key] = data
        yield run_pull_pb2.SetStorageResponse(size=len(data))

    async def _request_action(self, request: run_pull_pb2.RequestActionRequest) -> AsyncIterator[Any]:
        action = read(PlatformAction, request.action)
        first = self.things.actions.setdefault(request.request_id, action)
        if first != action:
            raise Conflict(f"the request_id {request.request_id!r} stands for another action of this run")
        yield run_pull_pb2.RequestActionResponse(delivery_id=f"dlv_{request.request_id}")

    async def _request_interaction(self, request: run_pull_pb2.RequestInteractionRequest) -> AsyncIterator[Any]:
        question = read(Interaction, request.interaction)
        if self.things.question not in (None, question):
            raise WrongState("the run has asked already, which ends it", reason=Reason.AWAITING_INTERACTION)
        self.things.question = question
        yield run_pull_pb2.RequestInteractionResponse(delivery_id="dlv_question")

    async def _request_approval(self, request: run_pull_pb2.RequestApprovalRequest) -> AsyncIterator[Any]:
        wanted = read(WantedApproval, request)
        first = self.things.approvals.setdefault(wanted.request_id, wanted)
        if first != wanted:
            raise Conflict(f"the request_id {wanted.request_id!r} stands for something else in this run")
        if self.things.approve is None:
            raise WrongState(f"nobody approved it in time: {wanted.title}", reason=Reason.APPROVAL_EXPIRED)
        if not self.things.approve(wanted):
            raise NotPermitted(f"a person refused it: {wanted.title}", reason=Reason.APPROVAL_DENIED)
        yield run_pull_pb2.RequestApprovalResponse(approval_id=f"apr_{wanted.request_id}")

    async def _pull_steering(self, request: run_pull_pb2.PullSteeringRequest) -> AsyncIterator[Any]:
        response = run_pull_pb2.PullSteeringResponse()
        taken = self.things.steering[: request.limit or None]
        del self.things.steering[: len(taken)]
        for message in taken:
            write(message, response.messages.add())
        yield response
