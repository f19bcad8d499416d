"""A client of the servers, and what it sends."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ENOUGH_S = 120.0


@dataclass
class Reply:
    """status, headers and body of an answer."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """What a stream sent, the last one as text."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line.endswith("[DONE]") else json.loads(line[6:]) for line in lines]


@dataclass
class Client:
    """Asks a server; a new connection each time."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ENOUGH_S)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**self.headers, **given})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def chat(self, *parts: Any, **options: Any) -> Reply:
        """One message of the user; each part a text, or a part as it is."""
        content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
        request = {"model": "vlm", "messages": [{"role": "user", "content": content}], **options}
        return self.post("/v1/chat/completions", request)

    def post(self, path: str, values: Any) -> Reply:
        return self.ask("POST", path, json.dumps(values).encode(), Content_Type="application/json")


@contextmanager
def serving(server: Any) -> Iterator[Client]:
    """The server in a thread, until the block ends."""
    from superflow.agents.serving.run import listen

    bound = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    until = time.monotonic() + ENOUGH_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield Client(bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(ENOUGH_S)


def npy(points: Any, **kwargs: Any) -> bytes:
    """The bytes of an npy file."""
    file = io.BytesIO()
    np.save(file, points, **kwargs)
    return file.getvalue()


def lidar_url(points: Any, **more: Any) -> dict[str, Any]:
    """A part with points, or with these bytes."""
    data = points if isinstance(points, bytes) else npy(np.asarray(points, np.float32))
    url = "data:application/x-npy;base64," + base64.b64encode(data).decode()
    return {"type": "lidar_url", "lidar_url": {"url": url, **more}}
