# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The routes: embeddings in OpenAI's form, what `hf-longformer predict` says, health, metrics, a page."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from hf_longformer import __version__
from hf_longformer.conversion import InputError
from hf_longformer.finetune.embeddings import shortened

from .batching import Stopped
from .door import Door, as_refusal, while_wanted
from .errors import Refusal
from .models import EMBEDDINGS
from .page import form, result_page
from .requests import Embeddings, embeddings_of, json_of
from .service import HEAVY, Service

STOP_SECONDS = 5.0  # for the batch at work, when the server stops
FEW = 16  # results that are written at once, not in a thread


class App:
    """An ASGI application for a predictor.

    Args:
        predictor: An `Embedder` or a `Predictor`.
        name: What clients call it.
        tokens_per_batch: Tokens at once, padding included.
        max_queue: Texts that may wait.
        max_body: Bytes of a request.
        timeout: Seconds in which a request is answered, or refused.
        api_key: What clients must know; None: nothing.
    """

    def __init__(
        self,
        predictor: Any,
        *,
        name: str,
        tokens_per_batch: int,
        max_queue: int,
        max_body: int,
        timeout: float,
        api_key: str | None = None,
    ) -> None:
        self.predictor, self.name, self.timeout, self.created = predictor, name, timeout, int(time.time())
        self.service = Service(predictor, tokens_per_batch=tokens_per_batch, max_queue=max_queue)
        self.has_ended = False
        self.page = form(predictor.task, getattr(predictor, "columns", ("text",)), needs_key=api_key is not None)
        is_embedder = predictor.task == EMBEDDINGS
        routes = [
            Route(
                "/v1/embeddings" if is_embedder else "/predict",
                self.embed if is_embedder else self.predict,
                methods=["POST"],
            ),
            Route("/page", self.read, methods=["POST"]),
            Route("/", self.show),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
        ]
        handlers = {HTTPException: self._no_route, **dict.fromkeys((Refusal, InputError, Stopped, Exception), _refused)}
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        paths = frozenset(route.path for route in routes)
        self.door = Door(inner, max_body=max_body, api_key=api_key, metrics=self.service.metrics, routes=paths)
        self._paths = ", ".join(sorted(paths))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers, as ASGI has it."""
        await self.door(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.has_ended = self.service.stop(STOP_SECONDS)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        words = "there is no such path" if status == 404 else "this path takes another method"
        sentence = f"{words}, got {request.method} {request.url.path[:100]}: this server has {self._paths}"
        return _answer(Refusal(status, sentence).content, status)

    async def predict(self, request: Request) -> Response:
        """A row, or a list of rows: a result, or a list of results."""
        body = await request.body()
        content = await self._json(request, body)
        rows = content if isinstance(content, list) else [content]
        if not rows:
            raise Refusal(400, "a row, or a list of rows, is needed, got an empty list")
        async with self.service.place(len(rows)):
            work = self.service.rows(rows, len(body) > HEAVY)
            results = await while_wanted(request.receive, work, self.timeout)
        if isinstance(content, list):
            return await self._written(len(rows), lambda: results)
        if "error" in results[0]:
            raise Refusal(400, results[0]["error"])
        return await self._written(1, lambda: results[0])

    async def embed(self, request: Request) -> Response:
        """Embeddings in OpenAI's form."""
        body = await request.body()
        asked = embeddings_of(await self._json(request, body))
        self._check(asked)
        async with self.service.place(len(asked.rows)):
            work = self.service.embed(asked.rows, len(body) > HEAVY)
            results = await while_wanted(request.receive, work, self.timeout)
        return await self._written(len(results), lambda: self._list(results, asked))

    def _list(self, results: list[dict[str, Any]], asked: Embeddings) -> dict[str, Any]:
        tokens = sum(result["tokens"] for result in results)
        return {
            "object": "list",
            "data": [_embedding(index, result, asked) for index, result in enumerate(results)],
            "model": self.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _check(self, asked: Embeddings) -> None:
        if asked.model not in (None, self.name):
            raise Refusal(404, f"the model must be {self.name}, got {asked.model}", "model", "model_not_found")
        sizes = self.predictor.sizes
        if asked.dimensions is None or asked.dimensions in (sizes or range(1, self.predictor.size + 1)):
            return
        known = f"from 1 to {self.predictor.size}" if sizes is None else " or ".join(map(str, sizes))
        raise Refusal(400, f"dimensions must be {known} for this model, got {asked.dimensions}", "dimensions")

    async def read(self, request: Request) -> Response:
        """A page on which a document is read with what the model says of it."""
        body = await request.body()
        row = await self._json(request, body)
        if not isinstance(row, dict):
            raise Refusal(400, f"a JSON object is needed, got {type(row).__name__}")
        async with self.service.place(1):
            work = self._said_of(row, len(body) > HEAVY)
            result = await while_wanted(request.receive, work, self.timeout)
        if "error" in result:
            raise Refusal(400, result["error"])
        return HTMLResponse(await self.service.in_thread(len(body) > HEAVY, lambda: result_page(row, result)))

    async def _said_of(self, row: dict[str, Any], is_heavy: bool) -> dict[str, Any]:
        if self.predictor.task != EMBEDDINGS:
            return (await self.service.rows([row], is_heavy))[0]
        texts = [row[name] for name in ("text", "text_pair") if row.get(name)]
        asked = embeddings_of({"input": texts, "truncate": True})
        first, *others = await self.service.embed(asked.rows, is_heavy)
        found = {"tokens": first["tokens"], "dimensions": len(first["embedding"])}
        if first.get("tokens_cut"):
            found |= {"truncated": True, "tokens_cut": first["tokens_cut"]}
        if others:
            pair = (shortened(one["embedding"], self.predictor.size) for one in (first, *others))
            found["cosine similarity"] = round(float(np.dot(*pair)), 4)
        return found

    async def show(self, request: Request) -> Response:
        """A page where a person pastes a document."""
        return HTMLResponse(self.page.html, headers=self.page.headers)

    async def health(self, request: Request) -> Response:
        """What is served, and whether it can be."""
        known = {"task": self.predictor.task, "model": self.name, "version": __version__}
        if self.predictor.task == EMBEDDINGS:
            known |= {"pooling": self.predictor.pooling, "dimensions": self.predictor.size}
            known["max_length"] = self.predictor.max_seq_length
        else:
            known |= {"columns": list(self.predictor.columns), "options": self.predictor.options}
        is_well = self.service.is_well
        known |= {"status": "ok" if is_well else "failed", "texts_waiting": self.service.waiting}
        return _answer(known, 200 if is_well else 503)

    async def metrics(self, request: Request) -> Response:
        """What was counted, for Prometheus."""
        text, kind = self.service.metrics.text()
        return Response(text, media_type=kind)

    async def models(self, request: Request) -> Response:
        """The one model, in OpenAI's form."""
        own = {"id": self.name, "object": "model", "created": self.created, "owned_by": "hf-longformer"}
        return _answer({"object": "list", "data": [own]})

    async def _json(self, request: Request, body: bytes) -> Any:
        kind = request.headers.get("content-type", "")
        if len(body) <= HEAVY:
            return json_of(body, kind)
        return await self.service.in_thread(True, lambda: json_of(body, kind))

    async def _written(self, results: int, content: Callable[[], Any]) -> Response:
        if results <= FEW:
            return _answer(content())
        return await self.service.in_thread(False, lambda: _answer(content()))


async def _refused(request: Request, error: Exception) -> Response:
    refusal = as_refusal(error)
    return JSONResponse(refusal.content, refusal.status, refusal.headers)


def _answer(content: Any, status: int = 200) -> Response:
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"), default=str)
    except ValueError as error:
        raise Refusal(400, "numbers of a row must be finite, got NaN or Infinity") from error
    return Response(text, status, media_type="application/json")


def _embedding(index: int, result: dict[str, Any], asked: Embeddings) -> dict[str, Any]:
    vector = result["embedding"]
    if asked.dimensions is not None and asked.dimensions != len(vector):
        vector = shortened(vector, asked.dimensions)
    vector = vector.astype("<f4")
    sent = base64.b64encode(vector.tobytes()).decode() if asked.is_base64 else vector.tolist()
    cut = {"truncated": True, "tokens_cut": result["tokens_cut"]} if "tokens_cut" in result else {}
    return {"object": "embedding", "index": index, "embedding": sent, **cut}
