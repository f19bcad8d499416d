"""A client that tells how each of its requests ended: it is answered, refused, broken off, or nothing comes."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

ANSWERED, REFUSED, BROKEN, LOST = "answered", "refused", "broken off", "lost"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which scan of the served log, and what the answer must be; "" where nobody knows."""

    token: str
    text: str
    answer: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """How one request ended.

    Attributes:
        kind: ``ANSWERED``, ``REFUSED`` with a status and one sentence, ``BROKEN`` where the connection said that its
            server has gone, ``LOST`` where neither came in time.
        status: of HTTP, 0 without. reply: its id. more: whether bytes came after the whole answer.
        wait_s: what a refusal asks to wait.
        begin_s, end_s: on the clock ``time.monotonic``.
    """

    asked: Question
    kind: str
    begin_s: float
    end_s: float
    status: int = 0
    reply: str = ""
    text: str = ""
    more: bool = False
    wait_s: float = 0.0


class Visitor:
    """Asks the language server at a port of this machine; each request has a connection of its own."""

    def __init__(self, port: int, model: str, *, patience_s: float, answer_tokens: int) -> None:
        self._port, self._model = port, model
        self._patience_s, self._answer_tokens = patience_s, answer_tokens

    def ask(self, asked: Question) -> End:
        """One request, and how it ended."""
        scan = {"type": "lidar_scene", "lidar_scene": {"token": asked.token}}
        content = [scan, {"type": "text", "text": asked.text}]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._answer_tokens,
        }
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._patience_s)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            status, told, values, more = _all_of(connection.sock)
        except TimeoutError:
            return End(asked, LOST, began, time.monotonic())
        except (OSError, http.client.HTTPException):
            # also where nothing, or half an answer, came before its end
            return End(asked, BROKEN, began, time.monotonic())
        else:
            ended = time.monotonic()
            if status != 200:
                return End(asked, REFUSED, began, ended, status, wait_s=float(told.get("Retry-After", 0)))
            text = values["choices"][0]["message"]["content"]
            return End(asked, ANSWERED, began, ended, 200, values["id"], text, more)
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """JSON of a path, whatever its status; None where the server is not there."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._patience_s)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class _Sent:
    """What `http.client` reads a response from: bytes that are there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _all_of(held: socket.socket) -> tuple[int, Any, Any, bool]:
    """Status, headers and JSON of all that a server sends until it closes, and whether that is more than one answer."""
    data = b"".join(iter(lambda: held.recv(1 << 16), b""))
    response = http.client.HTTPResponse(_Sent(data))  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    more = data.partition(b"\r\n\r\n")[2] != body
    return response.status, response.headers, json.loads(body), more
