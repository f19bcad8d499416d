"""Runs programs, each in a child process of its own within limits: ``python -m superflow.agents.saga.worker``.

Reads batches, lines of JSON ``{"limits", "cases", "jobs"}``, and writes a line of JSON for each job. A job is
``{"source", "name"}``, of which the outcome on every case is written, with ``"differs"`` whether that is another one
than the first job of the batch gave; or ``{"search": {...}}``, see `differential.search`.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from .cases import Case
from .differential import search
from .outcomes import load_program, outcome, same

MAX_OUTPUT = 1 << 26  # bytes of one job
DONE = b'"done"\n'  # the last row of a child that came to its end


def main() -> None:
    """Batches up to the end of the input."""
    for line in sys.stdin:
        batch = json.loads(line)
        cases = [Case.from_dict(values) for values in batch["cases"]]
        if any("search" in job for job in batch["jobs"]):
            with suppress(ImportError):  # once, and not in every child; what is missing is said there
                import_module("hypothesis.strategies")
        first: dict[str, Any] = {"rows": []}
        for number, job in enumerate(batch["jobs"]):
            expected = first["rows"] if job.get("differs") else None
            result = _run(job, cases, batch["limits"], expected)
            if number == 0:
                first = result
            print(json.dumps(result), flush=True)


def _run(
    job: Mapping[str, Any], cases: Sequence[Case], limits: Mapping[str, int], expected: Sequence[Any] | None
) -> dict[str, Any]:
    """The rows that a child wrote, and what ended it before its end, if something did."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(_rows(job, cases, expected), limits, write)
    os.close(write)
    parts, size, end = [], 0, time.monotonic() + limits["wall_s"]
    killed = ""
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, end - time.monotonic()))
        part = os.read(read, 1 << 16) if ready else b""
        if not ready:
            killed = "time"
        elif size + len(part) > MAX_OUTPUT:
            killed = "output"
        if not part or killed:
            break
        parts.append(part)
        size += len(part)
        if part.endswith(DONE):  # what the program started may still hold the pipe
            break
    os.close(read)
    with suppress(ProcessLookupError):  # also what it started itself
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)  # of one that had ended, the end that it had
    rows = b"".join(parts).split(b"\n")[:-1]  # what stands after the last line end is half a row
    done = bool(rows) and rows[-1] + b"\n" == DONE
    if not done and not killed:
        cpu = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        killed = "time" if cpu else "died"
    return {"rows": [json.loads(row) for row in (rows[:-1] if done else rows)], "killed": killed}


def _child(rows: Iterator[Any], limits: Mapping[str, int], write: int) -> None:
    """Never returns."""
    try:
        os.setsid()
        empty = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(empty, number)
        for name, limit in (
            (resource.RLIMIT_AS, limits["memory_mb"] << 20),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, limits["files"]),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(name, (limit, limit))
        # a fork begins at 0; the soft limit tells that it was time, the hard one ends what does not listen
        resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
        for row in rows:
            os.write(write, json.dumps(row).encode() + b"\n")
        os.write(write, DONE)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _rows(job: Mapping[str, Any], cases: Sequence[Case], expected: Sequence[Any] | None) -> Iterator[Any]:
    if "search" in job:
        yield search(**job["search"])
        return
    try:
        program = load_program(job["source"], job["name"])
    except Exception as error:
        text = type(error).__name__

        def program(*_: Any, **__: Any) -> Any:
            raise ImportError(text)

    for i, case in enumerate(cases):
        found = outcome(program, case)
        yield found if expected is None else not same(found, expected[i])


if __name__ == "__main__":
    main()
