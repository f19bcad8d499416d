"""Programs of others, run in processes of their own within limits of CPU time, memory, files and wall time.

One process reads batches and forks a child for each program, so that hundreds cost one start of Python, and no program
sees what another did. A child may write no file (its limit of a file's size is 0). The limits keep mistakes from the
machine; they are no wall against someone who wants to break out, and the network is not closed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import InputError
from .cases import Case


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one program on all tests of a batch. memory_mb: address space. files: open at a time."""

    cpu_s: int = 10
    wall_s: int = 60
    memory_mb: int = 4096
    files: int = 64


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    rows: of each test in turn, fewer where it was killed. killed: time, output, died, or empty.
    """

    rows: list[Any]
    killed: str


class Sandbox:
    """A context in which programs run.

    Raises:
        InputError: this system has no such limits, or the process that runs the programs came to its end.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        if not hasattr(os, "fork"):
            raise InputError(
                "programs are run with fork and resource limits, which this system lacks; use Linux"
            )
        self.limits = limits or Limits()

    def __enter__(self) -> Sandbox:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder.name,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def run(self, jobs: Sequence[Mapping[str, Any]], cases: Sequence[Case] = ()) -> list[Result]:
        """The results of jobs, see `worker`, each on all cases."""
        batch = {
            "limits": asdict(self.limits),
            "cases": [each.to_dict() for each in cases],
            "jobs": list(jobs),
        }
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json.dumps(batch) + "\n")
            requests.flush()
        except BrokenPipeError:
            pass  # it is told below
        lines = [answers.readline() for _ in jobs]
        if not all(lines):
            raise InputError(f"the process that runs programs ended with {self._process.wait()}; start anew")
        return [Result(**json.loads(line)) for line in lines]

    def compare(
        self, reference: str, sources: Sequence[str], name: str, cases: Sequence[Case]
    ) -> tuple[list[bool], list[list[bool]]]:
        """Which tests the reference has an answer to, and of each program whether each test fails it, in one batch.

        A test that a program is killed on fails it, those after it do not.
        """
        jobs: list[dict[str, Any]] = [{"source": reference, "name": name}]
        jobs += [{"source": each, "name": name, "differs": True} for each in sources]
        first, *results = self.run(jobs, cases)
        answered = ["value" in row for row in first.rows] + [False] * (len(cases) - len(first.rows))
        return answered, [_failed(result, len(cases)) for result in results]


def _failed(result: Result, count: int) -> list[bool]:
    """A job's row; the test that ended it early is failed, too."""
    cut = bool(result.killed) and len(result.rows) < count
    row = [*result.rows, True] if cut else list(result.rows)
    return row + [False] * (count - len(row))
