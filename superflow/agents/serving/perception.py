"""The perception server: points, or the token of a scan, in; features out."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import Response

from .gate import Gate
from .halves import Eyes
from .npy import MOST_BYTES, frame_of, points_of
from .refusal import Refusal
from .scenes import Scenes
from .trace import Trace
from .web import body_of, json_of, kind_of, make_app
from .wire import DTYPES, HEADER, Features

TRACE = "X-Superflow-Trace"  # of the response: the stages as JSON
TILES = "X-Superflow-Tiles"  # of the response, where tiles are routed: 1 for each that has its full tokens, else 0
FRAME = "X-Superflow-Lidar-To-Ego"  # of the request: 4 x 4 numbers as JSON
NPY = "application/x-npy"
_MOST_JSON = 4096


def perception_app(
    eyes: Eyes,
    scenes: Scenes | None = None,
    *,
    places: int = 16,
    key: str | None = None,
    any_host: bool = False,
) -> FastAPI:
    """The server.

    ``POST /v1/perception?dtype=bfloat16`` takes an npy of points (``Content-Type: application/x-npy``), or JSON
    ``{"scene": TOKEN}``, and answers with the bytes of ``wire.Features`` and their label in a header.
    ``GET /v1/scenes`` lists the scans, ``GET /v1/scene?token=`` is what a page draws of one. Errors: 400 points or
    frame, 404 scan, 413 size, 415 type, 429 with Retry-After when ``places`` requests are inside.
    """
    gate = Gate(places)
    app, figures = make_app(gate, key=key, any_host=any_host)
    worker = ThreadPoolExecutor(1, "eyes")  # torch has its own threads; two scans at once would share them

    @app.post("/v1/perception")
    async def perception(request: Request) -> Response:
        trace = Trace(request.headers.get("x-request-id", ""))
        dtype = _dtype(request)
        with gate.enter():
            data = await body_of(request, MOST_BYTES, (NPY, "application/json"))
            frame = json_of(request.headers.get(FRAME, "null").encode())
            with trace.stage("perception"):
                work = worker.submit(_look, eyes, scenes, kind_of(request), data, frame, dtype, trace)
                features = await asyncio.wrap_future(work)
        figures.traced(trace)
        return _response(features, trace)

    @app.get("/v1/scenes")
    def scans() -> dict[str, Any]:
        merges = {"merge": eyes.merge, "short_merge": eyes.short_merge}
        return {"scenes": [] if scenes is None else scenes.listed(), "grid": eyes.grid, **merges}

    @app.get("/v1/scene")
    def scan(request: Request) -> dict[str, Any]:
        return _served(scenes).drawing(request.query_params.get("token"))

    @app.get("/health")
    def health() -> dict[str, Any]:
        own = {"model": eyes.hash, "pid": os.getpid(), "inside": gate.inside, "places": places}
        return {"status": "ok", **own}

    return app


def _look(
    eyes: Eyes, scenes: Scenes | None, kind: str, data: bytes, frame: Any, dtype: torch.dtype, trace: Trace
) -> Features:
    """Features of the points in a request of this kind, or of the scan that it names."""
    with trace.stage("read"):
        if kind == NPY:
            points, to_ego = points_of(data), frame_of(frame)
        else:
            points, to_ego = _served(scenes).points(_scene_in(data))
    with trace.stage("look"):
        return eyes.look(points, to_ego, dtype=dtype)


def _dtype(request: Request) -> torch.dtype:
    dtype = DTYPES.get(request.query_params.get("dtype", "bfloat16"))
    if dtype is None:
        raise Refusal(400, "bad_dtype", f"dtype is one of {', '.join(DTYPES)}")
    return dtype


def _response(features: Features, trace: Trace) -> Response:
    values, label = features.to_bytes()
    headers = {HEADER: json.dumps(label), TRACE: json.dumps(trace.stages)}
    if features.kept:
        headers[TILES] = json.dumps(list(map(int, features.kept)))
    return Response(values, media_type="application/octet-stream", headers=headers)


def _served(scenes: Scenes | None) -> Scenes:
    if scenes is None:
        raise Refusal(
            404, "unknown_scene", "the perception server was started without --index; send points instead"
        )
    return scenes


def _scene_in(data: bytes) -> Any:
    values = json_of(data[:_MOST_JSON])
    if not isinstance(values, dict) or set(values) != {"scene"}:
        raise Refusal(400, "bad_request", 'the JSON holds no scan; send {"scene": TOKEN}')
    return values["scene"]
