"""The application: endpoints, errors, and limits of what a client may send."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from biorel import _biorel
from biorel.errors import BiorelError, ConfigError, CorpusError, DeviceError
from biorel.models.relation_model import RelationModel
from biorel.models.table_prediction import default_type
from biorel.serving.batching import Batcher, Closed, Job, QueueFullError
from biorel.serving.limits import Limits, TooLargeError
from biorel.serving.metrics import Metrics
from biorel.serving.pages import page_response
from biorel.serving.requests import KINDS, Prepared, read_documents, read_pair, read_sentences
from biorel.serving.schemas import ExplainBody, Health, PredictBody, Problem, Schemas
from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDPOINTS = ("/", "/predict", "/explain", "/documents", "/health", "/metrics", "/docs", "/openapi.json")
# So much of a body that is too large is read and discarded, so that the client gets to read the answer.
_DISCARDED = 64 << 20
# What nginx writes to its log for a client that has gone; no one receives it.
_CLIENT_GONE = 499


class SlowClientError(BiorelError):
    """The body did not come in time."""


class JsonResponse(Response):
    """JSON in ASCII: a text may contain characters that UTF-8 cannot encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Service:
    """A model with its queue and its counters.

    Parameters
    ----------
    model : RelationModel
        The model.
    limits : Limits
        What is accepted.
    """

    def __init__(self, model: RelationModel, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        device = model._compute.device
        self.metrics = Metrics({"version": _biorel.__version__, "model": model.identity, "device": device})
        self.batcher = Batcher(
            model,
            batch_pairs=limits.batch_pairs,
            queue_pairs=limits.queue_pairs,
            wait=limits.batch_wait,
            observer=self.metrics,
        )
        self.kinds = KINDS if _weights_words(model) else KINDS[1:]

    async def answer(self, request: Request, read: Callable[[bytes], Prepared]) -> Any:
        """Read and check the body, wait for the model, and make the answer."""
        body = await self._body(request)
        prepared = await run_in_threadpool(read, body)
        result = await self._result(request, prepared.job)
        return await run_in_threadpool(prepared.answer, result)

    async def _body(self, request: Request) -> bytes:
        try:
            return await asyncio.wait_for(self._read(request), self.limits.body_timeout)
        except asyncio.TimeoutError:
            message = f"body: did not come within {self.limits.body_timeout:g} s; send less, or raise the limit"
            raise SlowClientError(message) from None

    async def _read(self, request: Request) -> bytes:
        limit = self.limits.max_body
        error = TooLargeError(f"body: is larger than {limit:,} bytes; send several requests, or raise the limit")
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit and "expect" in request.headers:
            raise error  # the client waits for leave to send
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > _DISCARDED:
                break
        if size > limit:
            raise error
        return b"".join(parts)

    async def _result(self, request: Request, job: Job) -> Any:
        """The job's result; a job whose client hangs up is withdrawn."""
        result = asyncio.wrap_future(self.batcher.submit(job))
        # After the body the only thing to receive is that the client has gone.
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            gone.cancel()
            result.cancel()
            self.batcher.withdraw(job)

    def health(self) -> dict[str, Any]:
        """The fields of ``Health``."""
        model = self.model
        return {
            "status": "ok",
            "version": _biorel.__version__,
            "model": model.identity,
            "head": model.head,
            "marking": model.marking,
            "device": model._compute.device,
            "precision": model._compute.precision,
            "labels": model.labels,
            "negative": model.negative,
            "types": model._core.task.types,
            "rules": model._core.task.rules,
            "default_type": default_type(model._core.task),
            "kinds": list(self.kinds),
        }


def make_app(model: RelationModel, limits: Limits | None = None) -> FastAPI:
    """The application of a model.

    Parameters
    ----------
    model : RelationModel
        The model.
    limits : Limits, optional
        What is accepted; by default the defaults of ``biorel serve``.

    Returns
    -------
    FastAPI
        An ASGI application. ``app.state.service`` has the queue and the counters.

    Examples
    --------
    >>> from biorel.serving.app import make_app
    >>> app = make_app(model)
    >>> sorted(app.openapi()["paths"])
    ['/documents', '/explain', '/health', '/metrics', '/predict']
    """
    service = Service(model, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await run_in_threadpool(service.batcher.close)

    app = FastAPI(
        title="biorel",
        summary=f"Relations between biomedical entities: {model.identity}",
        version=_biorel.__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its scripts from a CDN
        redoc_url=None,
    )
    app.state.service = service
    _add_model_endpoints(app, service)
    _add_other_endpoints(app, service)
    _add_errors(app)
    app.add_middleware(_Counted, metrics=service.metrics)
    return app


def _add_model_endpoints(app: FastAPI, service: Service) -> None:
    model, limits = service.model, service.limits
    schemas = Schemas(model)
    problems: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": text}
        for code, text in {
            408: "The body did not come in time",
            413: "The request exceeds a limit",
            422: "A field or row is wrong",
            429: "Too many pairs wait; try again after Retry-After seconds",
        }.items()
    }
    sentence, row = schemas.sentence(), schemas.table_row()
    examples = {
        "sentences": {"summary": "Sentences with entities", "value": {"sentences": [sentence]}},
        "rows": {"summary": "One row per pair", "value": {"sentences": [row]}},
    }

    @app.post(
        "/predict",
        summary="Classify the pairs of sentences",
        responses={200: {"model": schemas.prediction, "description": "One entry per pair"}, **problems},
        openapi_extra=_json_body(PredictBody, examples),
    )
    async def predict(request: Request) -> Response:
        """Classify every pair of entities whose types can be related, or the rows of a table with one pair per row.

        The fields are the arguments of ``RelationModel.predict``, the entries of the answer its rows.
        """
        found = await service.answer(request, lambda body: read_sentences(model, body, limits))
        return JsonResponse({"model": model.identity, **found})

    @app.post(
        "/explain",
        summary="Weigh the words of a sentence for one pair",
        responses={200: {"model": schemas.explanation, "description": "The relation and the words"}, **problems},
        openapi_extra=_json_body(ExplainBody, {"pair": {"value": {**sentence, "pair": [0, 1]}}}),
    )
    async def explain(request: Request) -> Response:
        """Classify one pair and return the weight of each word, as ``biorel.heatmap`` shades it."""
        found = await service.answer(request, lambda body: read_pair(model, body, limits, service.kinds))
        return JsonResponse({"model": model.identity, **found})

    text: dict[str, Any] = {"schema": {"type": "string"}}
    bodies = {
        "text/plain": {**text, "examples": {"pubtator": {"value": schemas.pubtator()}}},
        "application/json": {"schema": {"type": "object", "description": "a BioC collection"}},
        "application/xml": {"schema": {"type": "string", "description": "a BioC collection"}},
    }
    found_documents: dict[str, Any] = {"model": schemas.documents, "description": "The pairs, or the documents"}
    found_documents["content"] = {"application/x-ndjson": text, "text/plain": text, "application/xml": text}

    @app.post(
        "/documents",
        summary="Classify the pairs of documents",
        responses={200: found_documents, **problems},
        openapi_extra={"requestBody": {"required": True, "content": bodies}},
    )
    async def documents(
        request: Request,
        *,
        input_format: Annotated[
            str | None, Query(description="pubtator, bioc-json or bioc-xml; by default told from the first character")
        ] = None,
        format: Annotated[
            str,
            Query(
                description="json, jsonl (one pair per line), or the documents with the relations: pubtator, "
                "pubtator-relations (only these lines), bioc-json, bioc-xml"
            ),
        ] = "json",
        type: Annotated[
            list[str] | None, Query(description="THEIRS=OURS: the model's name for a type; may be repeated")
        ] = None,
        related_only: Annotated[bool, Query(description="leave out pairs that are not related")] = False,
        threshold: Annotated[
            float, Query(description="leave out relations with a lower probability, from 0 to 1")
        ] = 0.0,
    ) -> Response:
        """Classify every pair of entities that are in one sentence, as ``biorel predict`` does."""
        settings: dict[str, Any] = {"input_format": input_format, "format": format, "types": _types(type or [])}
        settings |= {"related_only": related_only, "threshold": threshold}
        found = await service.answer(request, lambda body: read_documents(model, body, limits, **settings))
        if isinstance(found, str):
            kinds = {"bioc-json": "application/json", "bioc-xml": "application/xml"}
            return Response(found, media_type=kinds.get(format, "text/plain"))
        if format == "jsonl":
            lines = [json.dumps({**pair, "model": model.identity}) + "\n" for pair in found["pairs"]]
            return Response("".join(lines), media_type="application/x-ndjson")
        return JsonResponse({"model": model.identity, **found})


def _add_other_endpoints(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="The state of the service", response_model=Health)
    async def health() -> Response:
        """The model, the device and the version."""
        return JsonResponse(service.health())

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests, times, batches and the length of the queue, in Prometheus' text format."""
        text = service.metrics.text(*service.batcher.waiting)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_response("page.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page_response("docs.html")


def _add_errors(app: FastAPI) -> None:
    def refuse(kind: type[Exception], code: int) -> None:
        async def handler(_: Request, error: Exception) -> Response:
            field = getattr(error, "field", None) or getattr(error, "path", None)
            headers = {}
            if isinstance(error, QueueFullError):
                headers["Retry-After"] = str(error.retry_after)
            if isinstance(error, (SlowClientError, TooLargeError, Closed)):
                headers["Connection"] = "close"  # the rest of the body is not read
            return JsonResponse({"detail": str(error), "field": field}, code, headers)

        app.add_exception_handler(kind, handler)

    refuse(CorpusError, 422)
    refuse(ConfigError, 422)
    refuse(TooLargeError, 413)
    refuse(SlowClientError, 408)
    refuse(QueueFullError, 429)
    refuse(Closed, 503)
    refuse(DeviceError, 503)
    refuse(BiorelError, 500)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return JsonResponse({"detail": f"{field}: {first['msg']}", "field": field}, 422)

    @app.exception_handler(ClientDisconnect)
    async def client_gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=_CLIENT_GONE)


class _Counted:
    """Counts requests by endpoint and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = time.monotonic(), 500

        async def sent(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            endpoint = scope["path"] if scope["path"] in ENDPOINTS else "other"
            self._metrics.request(endpoint, code, time.monotonic() - started)


def _json_body(body: Any, examples: dict[str, Any]) -> dict[str, Any]:
    """The description of a JSON body, which the endpoint reads itself, within the limits."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inline(schema, definitions), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references to definitions, which FastAPI does not collect from `openapi_extra`."""
    if isinstance(schema, list):
        return [_inline(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(value, definitions) for name, value in schema.items()}


def _types(equations: list[str]) -> dict[str, str]:
    types = {}
    for one in equations:
        theirs, equals, ours = one.partition("=")
        if not equals or not theirs or not ours:
            raise ConfigError(f"type: `{one}` is not of the form THEIRS=OURS", "type")
        types[theirs] = ours
    return types


def _weights_words(model: RelationModel) -> bool:
    try:
        _biorel.attention(model._core, model._core.pairs([]).instances, "head", model._compute)
    except ConfigError:
        return False
    return True
