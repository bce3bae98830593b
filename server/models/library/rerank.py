"""Reranking as Cohere and Jina began it and many serve it: `POST /rerank` below the base URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import httpx2
from pydantic_ai.exceptions import ModelHTTPError

from portway.server.models.library.provider import Endpoint
from portway.server.models.provider import RankedDocument, Ranking
from portway.server.models.types import Usage


class RerankApi:
    """One endpoint. Raises what `FailureReader` names: HTTP errors, and ValueError for an answer that is none."""

    def __init__(self, endpoint: Endpoint, base_url: str) -> None:
        self._client = endpoint.client
        self._url = f"{base_url.rstrip('/')}/rerank"
        self._headers = {"authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        self._headers |= dict(endpoint.config.headers)

    async def rerank(self, model: str, query: str, documents: Sequence[str], top_k: int) -> Ranking:
        """The documents, best first."""
        wanted = min(top_k or len(documents), len(documents))
        body = {"model": model, "query": query, "documents": list(documents), "top_n": wanted}
        response = await self._client.post(self._url, json=body, headers=self._headers)
        if response.is_error:
            raise _failure(model, response)
        answer = response.json()
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise ValueError("the answer has no results")
        if not answer["results"]:
            raise ValueError("the answer has no results")
        found = sorted(_ranked(answer["results"], len(documents)), key=lambda one: -one.score)
        return Ranking(tuple(found[:wanted]), _usage(answer))


def _ranked(results: Sequence[object], count: int) -> Iterator[RankedDocument]:
    seen: set[int] = set()
    for one in results:
        index = one.get("index") if isinstance(one, dict) else None
        score = one.get("relevance_score", one.get("score")) if isinstance(one, dict) else None
        if type(index) is not int or not 0 <= index < count or index in seen:
            raise ValueError("a result names no document, or one twice")
        if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
            raise ValueError("a result has no score")
        seen.add(index)
        yield RankedDocument(index, float(score))


def _usage(answer: Mapping[str, object]) -> Usage:
    """Jina and others say `usage.total_tokens`; Cohere says `meta.tokens.input_tokens`, where it says anything."""
    usage, meta = answer.get("usage"), answer.get("meta")
    tokens = meta.get("tokens") if isinstance(meta, dict) else None
    for place, names in ((usage, ("prompt_tokens", "total_tokens")), (tokens, ("input_tokens",))):
        for name in names:
            value = place.get(name) if isinstance(place, dict) else None
            if type(value) is int and value >= 0:
                return Usage(value, output_tokens=0)
    return Usage(output_tokens=0)


def _failure(model: str, response: httpx2.Response) -> ModelHTTPError:
    try:
        body = response.json()
    except ValueError:
        body = None
    return ModelHTTPError(response.status_code, model, body, headers=response.headers)
