"""Chromium without a window, driven over a pipe in the words of its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ENOUGH_S = 120.0


class Browser:
    """A context with one page, of 1200 x 800 pixels."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: dict[str, str] = {}

    def __enter__(self) -> Browser:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        assert BROWSER is not None
        command = [
            *[BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"],
            *[f"--user-data-dir={self._folder}", "--window-size=1200,800", "about:blank"],
        ]
        # it reads from 3 and writes to 4
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", *command],
            pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        (page,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + ENOUGH_S
        while True:
            *messages, self._rest = self._rest.split(b"\0")
            for i, text in enumerate(messages):
                found = json.loads(text)
                if found.get("id") == number:
                    self._rest = b"\0".join([*messages[i + 1 :], self._rest])
                    assert "error" not in found, found
                    return found["result"]
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{method} took more than {ENOUGH_S} s"
            part = os.read(self._read, 1 << 16)
            assert part, "the browser ended"
            self._rest += part

    def go(self, address: str) -> None:
        """Open a page."""
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What JavaScript of the page gives, as JSON types; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until JavaScript is true."""
        end = time.monotonic() + ENOUGH_S
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < end, (
                f"{condition} did not come; the page says {self.value('document.body.innerText')}"
            )
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
