"""Both servers as processes of one command: what ends by itself is started anew, and all end together."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import InputError
from .run import DRAIN_S, listen

HELD = "--until-stdin-closes"  # of a command that shall end with the process that holds its standard input
WRONG_INPUT = 2  # exit code of a command whose input cannot be used: it would end again
MOST_ENDS, WITHIN_S = 5, 30.0  # of one server, before it is given up


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with listen(host, 0) as bound:
        return int(bound.getsockname()[1])


def keep(commands: Mapping[str, Sequence[str]], tell: Callable[[str], None]) -> int:
    """Run each command until SIGINT or SIGTERM; returns the exit code. To be called in the main thread.

    Args:
        commands: name of a server -> what starts it; it takes ``HELD``, and so ends where this process was killed.
        tell: is called with a sentence when a server ended and is started anew.

    Raises:
        InputError: a server ends again and again.
    """
    ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    running: dict[str, subprocess.Popen[bytes]] = {}
    ends: dict[str, deque[float]] = {name: deque(maxlen=MOST_ENDS) for name in commands}

    def start(name: str) -> None:
        child = running[name] = subprocess.Popen([*commands[name], HELD], stdin=subprocess.PIPE)

        def wait() -> None:
            child.wait()
            ended.put(name)

        threading.Thread(target=wait, daemon=True).start()

    def told_to_end(*_: Any) -> None:
        ended.put(None)

    before = {number: signal.signal(number, told_to_end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for name in commands:
            start(name)
        while (gone := ended.get()) is not None:
            code = running[gone].returncode
            if code == WRONG_INPUT:
                return WRONG_INPUT
            ends[gone].append(time.monotonic())
            if len(ends[gone]) == MOST_ENDS and ends[gone][-1] - ends[gone][0] < WITHIN_S:
                raise InputError(
                    f"the {gone} server ended {MOST_ENDS} times within {WITHIN_S:g} s; see what it printed"
                )
            tell(f"the {gone} server ended (code {code}) and is started anew")
            start(gone)
        return 0
    finally:
        for child in running.values():
            child.terminate()
        for child in running.values():
            try:
                child.wait(DRAIN_S + 5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
