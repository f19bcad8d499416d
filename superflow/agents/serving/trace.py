"""When each stage of a request ran, on the clock that all processes of a machine share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Trace:
    """Stages of one request, each with begin and end [s, ``time.monotonic``]."""

    request: str
    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block as one stage, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages.append({"stage": name, "begin_s": began, "end_s": time.monotonic()})

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"request": self.request, "stages": self.stages}
