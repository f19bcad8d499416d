"""Either server is killed while it is asked: every request ends with an answer or an error, and both come back."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra agents")
from superflow.agents.serving.keeper import free_port

from .client import ENOUGH_S, Client

REPOSITORY = Path(__file__).resolve().parents[4]


def well(voice: Client, other_than: int | None = None, of: str = "language") -> dict:
    """What /health says once both are well, and the server that was killed is another process."""
    until = time.monotonic() + ENOUGH_S
    while time.monotonic() < until:
        try:
            health = voice.get("/health").json()
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            continue
        if health["status"] == "ok" and pid(health, of) != other_than:
            return health
        time.sleep(0.2)
    raise AssertionError(f"the servers were not well within {ENOUGH_S} s")


def pid(health: dict, of: str) -> int:
    return health["pid"] if of == "language" else health["perception"]["pid"]


def test_a_killed_server_loses_nothing_silently(folder, small_index):
    port = free_port("127.0.0.1")
    given = ["--model", str(folder), "--index", str(small_index.folder), "--port", str(port)]
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    keeper = subprocess.Popen(
        [sys.executable, "-m", "superflow.tools.main", "serve", *given],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
    )
    voice, ends, enough = Client(port), [], threading.Event()
    part = {"type": "lidar_scene", "lidar_scene": {"token": small_index.tokens(small_index.rows())[0]}}

    def load() -> None:
        while not enough.is_set():
            try:
                reply = voice.chat(part, "How many cars are ahead?", max_tokens=8)
                ends.append((reply.status, reply.json()))
            except (
                OSError,
                http.client.HTTPException,
            ) as error:  # the connection says that its server has gone
                ends.append((type(error).__name__, None))
                time.sleep(0.1)

    def answered(more: int) -> None:
        wanted = more + sum(status == 200 for status, _ in ends)
        until = time.monotonic() + ENOUGH_S
        while sum(status == 200 for status, _ in ends) < wanted:
            assert time.monotonic() < until
            time.sleep(0.05)

    asking = [threading.Thread(target=load) for _ in range(2)]
    try:
        well(voice)
        for thread in asking:
            thread.start()
        for of in ("perception", "language"):
            answered(2)
            before, count = pid(well(voice), of), len(ends)
            os.kill(before, signal.SIGKILL)
            well(voice, before, of)
            answered(2)
            if of == "perception":  # the one that is asked was there all the time
                assert not [status for status, _ in ends[count:] if isinstance(status, str)]
        enough.set()
        for thread in asking:
            thread.join(ENOUGH_S)
            assert not thread.is_alive()  # nobody waits for an answer that does not come
    finally:
        enough.set()
        keeper.terminate()
        _, printed = keeper.communicate(timeout=ENOUGH_S)
    said = [body for status, body in ends if status == 200]
    assert len({body["id"] for body in said}) == len(said)
    assert len({body["choices"][0]["message"]["content"] for body in said}) == 1
    for status, body in ends:
        assert status in (200, 503) or isinstance(status, str)
        if status == 503:
            assert "perception server" in body["error"]["message"]
    assert keeper.returncode == 0
    for of in ("perception", "language"):
        assert f"the {of} server ended (code -9) and is started anew" in printed.decode()
