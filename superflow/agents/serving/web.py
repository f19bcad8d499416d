"""What both servers share: who may ask, how large a request may be, errors of one form, and figures."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ...errors import InputError
from ...files.access import each_once
from .gate import Gate
from .hosts import names_loopback
from .refusal import Refusal
from .trace import Trace

OPEN = ("/health", "/")  # without a key: whether the server is well, and the page, which asks for the key
BODY_S = 30.0  # for all of a body to arrive

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Figures:
    """What ``/metrics`` shows, in Prometheus' text form."""

    def __init__(self, gate: Gate) -> None:
        self.registry = CollectorRegistry()
        self._answered = Counter(
            "superflow_requests", "Requests that were answered", ["path", "status"], registry=self.registry
        )
        self._stages = Histogram(
            "superflow_stage_seconds", "Time in a stage of a request", ["stage"], registry=self.registry
        )
        inside = Gauge(
            "superflow_requests_inside", "Requests being answered or waiting", registry=self.registry
        )
        inside.set_function(lambda: gate.inside)

    def answered(self, path: str, status: int) -> None:
        """Counts one request."""
        self._answered.labels(path, str(status)).inc()

    def traced(self, trace: Trace) -> None:
        """Counts the stages of one request."""
        for stage in trace.stages:
            self._stages.labels(stage["stage"]).observe(stage["end_s"] - stage["begin_s"])

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)


def make_app(gate: Gate, *, key: str | None, any_host: bool) -> tuple[FastAPI, Figures]:
    """A server that answers errors in one form, and ``/metrics``.

    Args:
        key: that clients must show as ``Authorization: Bearer KEY``; None for none. any_host: take requests to any
            name of host; else to this machine's own alone, so that no page of the web reaches a server behind its back.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)  # their pages fetch scripts from the web
    figures = Figures(gate)
    app.add_middleware(_Door, key=key, any_host=any_host, figures=figures)  # type: ignore[arg-type]
    app.add_exception_handler(InputError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(figures.text(), media_type=CONTENT_TYPE_LATEST)

    return app, figures


def kind_of(request: Request) -> str:
    """What a request says that its body is, in small letters and without parameters, as ``application/json``."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def body_of(request: Request, most: int, kinds: tuple[str, ...]) -> bytes:
    """The body of a request, never more than ``most`` bytes of it in memory.

    Raises:
        Refusal: 413 when it is larger, 408 when it does not come, 415 when it is none of ``kinds``.
    """
    kind = kind_of(request)
    if kind not in kinds:
        raise Refusal(415, "bad_type", f"the Content-Type is {kind[:40]!r}; send {' or '.join(kinds)}")
    large = Refusal(413, "too_large", f"the request is larger than {most} bytes; send less")
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or len(told) > 18 or int(told) > most:
        raise large
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise large
    except TimeoutError as error:
        raise Refusal(
            408, "slow", f"the request did not arrive within {BODY_S:g} s; send it again"
        ) from error
    except ClientDisconnect as error:  # nobody reads this, and it is no failure of the server
        raise Refusal(408, "gone", "the client left before its request was whole; send it again") from error
    return bytes(data)


def json_of(data: bytes) -> Any:
    """What a client sent as JSON.

    Raises:
        Refusal: 400, it is none, or leaves open what is meant: a key twice, a number that is none or has no end.
    """

    def no_number(text: str) -> float:
        raise ValueError(f"{text} is no number of JSON")

    def finite(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else no_number(text[:20])

    try:
        return json.loads(
            data.decode(), parse_constant=no_number, parse_float=finite, object_pairs_hook=each_once
        )
    except (ValueError, RecursionError) as error:
        raise Refusal(
            400, "bad_request", f"the request is no JSON ({str(error)[:60]}); send UTF-8 JSON"
        ) from error


class _Door:
    """Refuses strangers, and counts what is answered."""

    def __init__(self, app: Any, *, key: str | None, any_host: bool, figures: Figures) -> None:
        self._app, self._key, self._any_host, self._figures = app, key, any_host, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(Request(scope))
            if refusal is None:
                await self._app(scope, receive, counted)
            else:
                await _refused(Request(scope), refusal)(scope, receive, counted)
        finally:
            # of unknown paths there is none: strangers make no new rows of figures
            route = scope.get("route")
            self._figures.answered(getattr(route, "path", "other"), status)

    def _refusal(self, request: Request) -> Refusal | None:
        # not by the request's URL, which of a header that cannot be read has the address that was bound
        if not self._any_host and not all(map(names_loopback, request.headers.getlist("host"))):
            return Refusal(
                421, "bad_host", "this server answers on 127.0.0.1 and localhost alone; ask it there"
            )
        if self._key is None or request.url.path in OPEN:
            return None
        shown = request.headers.get("authorization", "").encode()
        if hmac.compare_digest(shown, f"Bearer {self._key}".encode()):
            return None
        return Refusal(401, "bad_key", "the key is missing or wrong; send it as Authorization: Bearer KEY")


def _refused(request: Request, error: Exception) -> JSONResponse:
    # what follows in further lines is drawn for a terminal
    refusal = (
        error if isinstance(error, Refusal) else Refusal(400, "bad_request", str(error).partition("\n")[0])
    )
    return JSONResponse(refusal.body(), refusal.status, refusal.headers())


def _unknown(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 404
    what = "no such method" if status == 405 else "nothing"
    return _refused(request, Refusal(status, "not_found", f"there is {what} at {request.url.path[:80]}"))


def _failed(request: Request, error: Exception) -> JSONResponse:
    sentence = f"the server failed at this request ({type(error).__name__}); its log says where"
    return _refused(request, Refusal(500, "failed", sentence))
