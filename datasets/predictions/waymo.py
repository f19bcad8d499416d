"""Predictions for Waymo's server of 3D semantic segmentation: messages ``SemanticSegmentationSubmission``.

A message says who submits what, and holds frames; of each the predicted classes as images of both echoes of the upper
LiDAR, the only one that has labels. Numbers of fields are those of the dataset's published
segmentation_submission.proto, segmentation_metrics.proto and dataset.proto.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_in, is_text
from ...files.writes import write_bytes
from ..formats.protobuf_message import bytes_field, integer_field, integers_field
from ..formats.waymo_files import waymo_images_of_rows
from ..formats.waymo_points import CLASS, LABEL_CHANNELS, TOP
from ..index import LogIndex

FRAMES_OF_A_FILE = (
    500  # the server takes the results in parts; one of so many frames is some 50 million bytes
)

# numbers of the fields of each message
_TEXTS = {  # SemanticSegmentationSubmission
    **{"account_name": 1, "unique_method_name": 2, "authors": 3, "affiliation": 4, "description": 5},
    "method_link": 6,
}
_NEEDED = ("account_name", "unique_method_name")  # the dataset's own tool makes no submission without them
_SENSORS, _FRAMES_BEFORE, _FRAMES_AFTER, _RESULTS = 7, 8, 9, 10
_ALL_LIDARS = 1  # SensorType
_FRAMES = 1  # SegmentationFrameList
_LASERS, _SEGMENT, _TIME = 1, 2, 3  # SegmentationFrame
_NAME, _ECHOES = 1, {1: 2, 2: 3}  # Laser: which of them, the range image of each echo
_LABELS = 6  # RangeImage
_VALUES, _SHAPE, _SIDES = 1, 2, 1  # MatrixInt32, MatrixShape


class WaymoSubmission:
    """The files of one submission, each a whole message with some of the frames.

    Args:
        server: of the card: ``path`` of a file, with {part}. numbers: (256,) what stands for each train id.
        about: who submits what: fields of the message by name; ``authors`` with commas between them.

    Raises:
        InputError: a field is unknown, or one that the server needs is missing.
    """

    def __init__(
        self, server: Mapping[str, Any], numbers: NDArray[np.uint32], about: Mapping[str, str]
    ) -> None:
        self.server, self.numbers = server, numbers
        self._head = _head(about)
        self._frames: list[bytes] = []
        self._parts = self._passed = 0

    @property
    def archive(self) -> str:
        return str(self.server["archive"])

    def pass_over(self) -> None:
        """Its frame is in a file that is there, with those of the scans around it."""
        self._passed += 1
        if self._passed == FRAMES_OF_A_FILE:
            self._parts, self._passed = self._parts + 1, 0

    def write(self, index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> list[Path]:
        """Take the numbers (rows of the file,) of one scan; the file that is full with it, if one is."""
        images = waymo_images_of_rows(index.point_path(row), index.point_key(row), numbers.astype(np.int32))
        laser = integer_field(_NAME, TOP)
        for echo, number in _ECHOES.items():
            if (TOP, echo) in images:
                laser += bytes_field(number, bytes_field(_LABELS, _label_image(images[TOP, echo])))
        frame = bytes_field(_LASERS, laser) + bytes_field(_SEGMENT, index.scene(row).encode())
        self._frames.append(frame + integer_field(_TIME, int(index.time_us[row])))
        return self._flush(folder) if len(self._frames) == FRAMES_OF_A_FILE else []

    def finish(self, folder: Path) -> list[Path]:
        """Write what is left."""
        return self._flush(folder) if self._frames else []

    def _flush(self, folder: Path) -> list[Path]:
        path = file_in(folder, self.server["path"].format(part=self._parts))
        frames = b"".join(bytes_field(_FRAMES, frame) for frame in self._frames)
        write_bytes(path, self._head + bytes_field(_RESULTS, frames))
        self._frames.clear()
        self._parts += 1
        return [path]


def _head(about: Mapping[str, str]) -> bytes:
    """The fields of a submission that stand before its results."""
    unknown = [name for name, text in about.items() if name not in _TEXTS or not is_text(text)]
    lacking = [name for name in _NEEDED if not about.get(name)]
    if unknown or lacking:
        reason = f"takes no {unknown[0]!r} of this form" if unknown else f"needs {' and '.join(lacking)}"
        raise InputError(
            f"the server of waymo {reason}; say who submits with --server-fields account_name=EMAIL "
            f"unique_method_name=NAME, and if you like {', '.join(n for n in _TEXTS if n not in _NEEDED)}"
        )
    found = b""
    for name, number in _TEXTS.items():
        texts = about.get(name, "").split(",") if name == "authors" else [about.get(name, "")]
        for text in filter(None, map(str.strip, texts)):
            found += bytes_field(number, text.encode())
    # a scan is all that is read for a prediction
    return (
        found
        + integer_field(_SENSORS, _ALL_LIDARS)
        + integer_field(_FRAMES_BEFORE, 0)
        + integer_field(_FRAMES_AFTER, 0)
    )


def _label_image(classes: NDArray[np.int32]) -> bytes:
    """A packed matrix of (H, W) classes beside instances, which are not predicted."""
    image = np.zeros((*classes.shape, LABEL_CHANNELS), np.int32)
    image[..., CLASS] = classes
    shape = b"".join(integer_field(_SIDES, side) for side in image.shape)
    return zlib.compress(integers_field(_VALUES, image.ravel()) + bytes_field(_SHAPE, shape))
