"""Images of a log, from whatever file they lie in, in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superflow.datasets.formats.images import decode, named, stored_image
from superflow.datasets.formats.readers import IMAGE_FILE


def read_image(
    path: str | Path, size: tuple[int, int] | None = None, *, format: str = IMAGE_FILE, key: str = ""
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, as a ``Camera`` reads it; ``size``: (H, W) that it must have."""
    return decode(stored_image(path, format=format, key=key), named(path, key), size)
