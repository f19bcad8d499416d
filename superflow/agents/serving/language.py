"""The language server: a chat with scans in, an answer out, whole or as it is written."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from .chat import Chat, chat_of
from .gate import Gate
from .halves import Answer, Voice
from .link import Link, Scan
from .refusal import Refusal
from .trace import Trace
from .web import Figures, body_of, make_app
from .wire import Features

log = logging.getLogger(__name__)

MOST_BYTES = 48 << 20
_LOOKING = 2  # scans on their way at once: one is looked at while the next arrives
_TRACES = 256


class LanguageServer:
    """Takes a chat through its stages; each runs in threads of its own, so that requests overlap.

    A place of the gate is held from the first byte of a request to the last of its answer: what was taken is never
    refused by a later stage.
    """

    def __init__(self, voice: Voice, link: Link, *, name: str, places: int) -> None:
        self.voice, self.link, self.name = voice, link, name
        self.gate = Gate(places)
        self.traces: deque[dict[str, Any]] = deque(maxlen=_TRACES)
        self._lookers = ThreadPoolExecutor(_LOOKING, "link")
        self._speaker = ThreadPoolExecutor(1, "voice")

    async def read(self, request: Request, trace: Trace) -> Chat:
        """The chat of a request."""
        data = await body_of(request, MOST_BYTES, ("application/json",))
        with trace.stage("read"):
            return await asyncio.to_thread(
                chat_of, data, name=self.name, model=self.voice.hash, shape=self.voice.shape
            )

    async def prepare(self, chat: Chat, trace: Trace) -> tuple[Any, list[Features]]:
        """Tokens of the prompt, and features of its scans, one after another.

        A text that cannot be asked is refused before a scan is looked at; how many places a scan gets is known after.
        """
        counts = self.voice.shape[0]
        fewest = [counts if isinstance(counts, int) else counts.start] * len(chat.scans)
        await asyncio.to_thread(self.voice.prompt, chat.turns, fewest, chat.answer_tokens)
        found = []
        for scan in chat.scans:
            if isinstance(scan, Features):
                found.append(scan)
                continue
            with trace.stage("perception"):
                features, stages = await self._look(scan, trace.request)
            trace.stages += [{**stage, "stage": f"perception.{stage['stage']}"} for stage in stages]
            found.append(features)
        tokens = [len(each.tokens) for each in found]
        return await asyncio.to_thread(self.voice.prompt, chat.turns, tokens, chat.answer_tokens), found

    async def _look(self, scan: Scan, request: str) -> tuple[Features, list[Any]]:
        work = self._lookers.submit(
            self.link.look, scan, request, model=self.voice.hash, shape=self.voice.shape
        )
        try:
            async with asyncio.timeout(self.link.timeout_s):
                return await asyncio.wrap_future(work)
        except TimeoutError as error:
            raise self.link.late() from error

    def say(
        self, chat: Chat, ids: Any, scans: list[Features], trace: Trace, heard: Any, enough: threading.Event
    ) -> Future[Answer]:
        """Begin to answer, in the thread that speaks."""

        def work() -> Answer:
            with trace.stage("language"):
                return self.voice.say(
                    ids,
                    scans,
                    answer_tokens=chat.answer_tokens,
                    heard=heard,
                    enough=enough,
                    temperature=chat.temperature,
                    seed=chat.seed,
                )

        return self._speaker.submit(work)


def language_app(server: LanguageServer, *, key: str | None = None, any_host: bool = False) -> FastAPI:
    """The server as an application.

    ``POST /v1/chat/completions``, ``GET /v1/models``, ``/v1/scenes``, ``/v1/scene?token=``, ``/v1/traces``,
    ``/health``, ``/metrics``, and a page at ``/``. Errors: see ``chat``, ``link`` and ``gate``.
    """
    app, figures = make_app(server.gate, key=key, any_host=any_host)

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        return await _completed(server, figures, request)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": server.name, "object": "model", "owned_by": "superflow"}]}

    @app.get("/v1/scenes")
    def scenes() -> Any:
        return server.link.get("/v1/scenes")

    @app.get("/v1/scene")
    def scene(request: Request) -> Any:
        return server.link.scene(request.query_params.get("token", ""))

    @app.get("/v1/traces")
    def traces() -> dict[str, Any]:
        return {"traces": list(server.traces)}

    @app.get("/health")
    def health() -> JSONResponse:
        return _health(server)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(files(__package__).joinpath("page.html").read_text("utf-8"))

    return app


async def _completed(server: LanguageServer, figures: Figures, request: Request) -> Response:
    """The answer to a chat, whole or as it is written."""
    trace = Trace(uuid.uuid4().hex)
    with ExitStack() as inside:
        inside.enter_context(server.gate.enter())
        inside.callback(_keep, server, figures, trace)
        chat = await server.read(request, trace)
        ids, scans = await server.prepare(chat, trace)
        head = {"id": f"chatcmpl-{trace.request}", "created": int(time.time()), "model": server.name}
        if chat.stream:
            pieces = _stream(server, chat, ids, scans, trace, head)
            return _Stream(pieces, inside.pop_all(), headers=_no_cache(trace))
        said = await asyncio.wrap_future(
            server.say(chat, ids, scans, trace, lambda piece: None, threading.Event())
        )
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said.text},
            "finish_reason": said.finish,
            "logprobs": None,
        }
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(said, scans)}
        return JSONResponse({**body, **_told(trace, scans)}, headers=_no_cache(trace))


def _health(server: LanguageServer) -> JSONResponse:
    """How the server is, and the one that looks for it."""
    own = {
        "model": server.voice.hash,
        "pid": os.getpid(),
        "inside": server.gate.inside,
        "places": server.gate.places,
    }
    try:
        eyes = server.link.get("/health")
        fits = eyes["model"] == server.voice.hash
        status = "ok" if fits else "the perception server runs another model; start both with the same folder"
    except Refusal as error:
        eyes, fits, status = None, False, str(error)
    return JSONResponse({"status": status, **own, "perception": eyes}, 200 if fits else 503)


class _Stream(StreamingResponse):
    """Events, and what ends with them, also where the client goes before the first."""

    def __init__(self, pieces: AsyncIterator[bytes], inside: ExitStack, *, headers: dict[str, str]) -> None:
        super().__init__(pieces, media_type="text/event-stream", headers=headers)
        self._inside = inside

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._inside:
            await super().__call__(scope, receive, send)


async def _stream(
    server: LanguageServer, chat: Chat, ids: Any, scans: list[Features], trace: Trace, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Server-sent events, in OpenAI's form; an error on the way is an event, too, and then there is no [DONE]."""
    enough, loop = threading.Event(), asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    head = {**head, "object": "chat.completion.chunk"}

    def put(piece: str | None) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _event({**head, "choices": [choice]})

    said = server.say(chat, ids, scans, trace, put, enough)
    said.add_done_callback(lambda _: put(None))
    try:
        yield event({"role": "assistant", "content": ""})
        while (piece := await pieces.get()) is not None:
            yield event({"content": piece})
        answer = said.result()
        yield event({}, answer.finish)
        if chat.with_usage:
            usage = {"choices": [], "usage": _usage(answer, scans), **_told(trace, scans)}
            yield _event({**head, **usage})
        yield b"data: [DONE]\n\n"
    except Exception as error:  # whatever it is, the client hears of it; the status was sent before
        log.exception("the answer to %s broke off", trace.request)
        sentence = f"the answer broke off ({type(error).__name__}); ask again"
        yield _event(Refusal(500, "failed", sentence).body())
    finally:
        enough.set()  # the client may have gone
        said.cancel()


def _event(values: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(values)}\n\n".encode()


def _usage(answer: Answer, scans: list[Features]) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "lidar_tokens": sum(len(scan.tokens) for scan in scans),
    }


def _told(trace: Trace, scans: list[Features]) -> dict[str, Any]:
    """When each stage ran, and of routed scans which tiles have their full tokens."""
    kept = [list(map(int, scan.kept)) for scan in scans]
    return {"trace": trace.to_dict(), **({"tiles_kept": kept} if any(kept) else {})}


def _no_cache(trace: Trace) -> dict[str, str]:
    return {"X-Request-Id": trace.request, "Cache-Control": "no-store"}


def _keep(server: LanguageServer, figures: Figures, trace: Trace) -> None:
    figures.traced(trace)
    server.traces.append(trace.to_dict())
