"""How many requests a server takes at once: the next one hears at once that it has to wait, and how long."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .refusal import Refusal


class Gate:
    """A bounded queue. What is inside is accepted, and ends with an answer or an error; nothing is dropped later.

    Used by one event loop alone, so it needs no lock.
    """

    def __init__(self, places: int) -> None:
        self.places, self.inside = places, 0
        self._pace_s = 1.0  # between two that end, while there is work

    @contextmanager
    def enter(self) -> Iterator[None]:
        """A place, until the block ends.

        Raises:
            Refusal: 429, when all are taken.
        """
        if self.inside >= self.places:
            wait = max(1, math.ceil(self._pace_s))
            raise Refusal(
                429,
                "busy",
                f"{self.inside} requests are inside, which is all that this server takes; ask again in {wait} s",
                retry_after_s=wait,
            )
        self.inside += 1
        began = time.monotonic()
        try:
            yield
        finally:
            spent = (time.monotonic() - began) / self.inside
            self._pace_s += 0.2 * (spent - self._pace_s)
            self.inside -= 1
