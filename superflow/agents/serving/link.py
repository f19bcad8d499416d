"""The language server's way to the perception server: connections that are kept, and errors that say whose they are."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .perception import FRAME, NPY, TILES, TRACE
from .refusal import Refusal
from .wire import HEADER, Features, Shape, features_of, label_of


@dataclass(frozen=True, slots=True)
class Scan:
    """What is looked at: the bytes of an npy with the frame of its points, or the token of a scan."""

    npy: bytes = b""
    lidar_to_ego: NDArray[np.float64] | None = None
    token: str | None = None


class Link:
    """Safe to use from many threads, each of which keeps its connection."""

    def __init__(
        self, url: str, *, timeout_s: float = 30.0, key: str | None = None, dtype: str = "bfloat16"
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise InputError(
                f"{url!r} is no address of a perception server; give one as http://127.0.0.1:8001"
            )
        self.url, self._host, self._port = url, parts.hostname, parts.port or 80
        self.timeout_s, self._key, self._dtype = timeout_s, key, dtype
        self._kept = threading.local()

    def look(self, scan: Scan, request: str, *, model: str, shape: Shape) -> tuple[Features, list[Any]]:
        """Features of a scan, and the stages that the perception server timed.

        Raises:
            Refusal: what the perception server refuses, with its own status; 503 where it is not there, 504 where it
                takes too long, 502 where its features are not those of this model.
        """
        headers = {"X-Request-Id": request, "Content-Type": NPY}
        if scan.token is not None:
            data, headers["Content-Type"] = json.dumps({"scene": scan.token}).encode(), "application/json"
        else:
            data = scan.npy
            if scan.lidar_to_ego is not None:
                headers[FRAME] = json.dumps(scan.lidar_to_ego.tolist())
        values, told = self._ask("POST", f"/v1/perception?dtype={self._dtype}", data, headers)
        try:
            found = features_of(values, label_of(told.get(HEADER)), model=model, shape=shape)
        except InputError as error:
            raise Refusal(
                502, "bad_features", f"the perception server at {self.url} sent what cannot be used: {error}"
            ) from error
        kept = tuple(map(bool, label_of(told.get(TILES)) or ()))
        return replace(found, kept=kept), label_of(told.get(TRACE)) or []

    def get(self, path: str) -> Any:
        """JSON of a path, with the same errors."""
        return json.loads(self._ask("GET", path, None, {})[0])

    def scene(self, token: str) -> Any:
        """What a page draws of a scan."""
        return self.get(f"/v1/scene?token={quote(token, safe='')}")

    def late(self) -> Refusal:
        """What is said where an answer takes too long."""
        said = f"the perception server at {self.url} did not answer within {self.timeout_s:g} s; "
        return Refusal(504, "perception_slow", f"{said}ask again, or start it anew", retry_after_s=5)

    def _ask(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[bytes, Any]:
        if self._key is not None:
            headers = {**headers, "Authorization": f"Bearer {self._key}"}
        try:
            try:
                status, told, values = self._once(method, path, data, headers)
            except (ConnectionError, http.client.HTTPException):
                # a kept connection dies with its server, and another may stand there by now; looking twice does no harm
                status, told, values = self._once(method, path, data, headers)
        except TimeoutError as error:
            raise self.late() from error
        except (OSError, http.client.HTTPException) as error:
            raise Refusal(
                503,
                "perception_down",
                f"the perception server at {self.url} cannot be reached "
                f"({type(error).__name__}); start it and ask again",
                retry_after_s=2,
            ) from error
        if status != 200:
            raise _passed_on(status, told, values)
        return values, told

    def _once(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, Any, bytes]:
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is None:
            kept = self._kept.connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self.timeout_s
            )
        try:
            kept.request(method, path, data, headers)
            response = kept.getresponse()
            return response.status, response.headers, response.read()
        except BaseException:
            kept.close()  # half an answer may wait in it
            self._kept.connection = None
            raise


def _passed_on(status: int, told: Any, values: bytes) -> Refusal:
    """The refusal of the perception server as the client's own."""
    try:
        error = json.loads(values)["error"]
        code, sentence = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return Refusal(
            502, "bad_answer", f"the perception server answered with status {status} and no reason"
        )
    if status in (401, 421):  # its quarrel is with this server, not with the client
        return Refusal(502, "bad_answer", f"the perception server refuses this server: {sentence}")
    wait = told.get("Retry-After", "")
    return Refusal(status, code, sentence, retry_after_s=int(wait) if wait.isdecimal() else None)
