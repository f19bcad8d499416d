"""Which image a part of a cache was made from: its name may stay while the image is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import Camera
from ..errors import MissingFileError
from .images import camera_image


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """An image by its content; size and time of its file spare reading it again.

    A copy of the data on another disk has other times: then the bytes decide.
    """

    file_bytes: int  # size of the file that the image lies in; of its pixels where a camera carries it
    time_ns: int  # when that file was changed last; 0 where a camera carries the image
    sha256: str  # of the image as it is stored, hex

    def holds(self, camera: Camera) -> bool:
        """Whether the image of ``camera`` is this one.

        Raises:
            InputError: it is missing.
        """
        if camera.image is None and camera.file_state() == (self.file_bytes, self.time_ns):
            return True
        data = camera.image.tobytes() if camera.image is not None else camera.stored()
        return hashlib.sha256(data).hexdigest() == self.sha256

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> ImageIdentity | None:
        """What `to_dict` gave; None where the values are not of that form."""
        names = {"file_bytes": int, "time_ns": int, "sha256": str}
        if not isinstance(values, dict) or any(
            type(values.get(name)) is not kind for name, kind in names.items()
        ):
            return None
        return cls(**{name: values[name] for name in names})


def of_other_images(cameras: Iterable[Camera], noted: Callable[[str], ImageIdentity | None]) -> list[str]:
    """Tokens of the cameras whose image is another one than that which was noted under their token.

    An image that is not there says nothing: what was made of it may be all that is kept.
    """
    found = []
    for camera in cameras:
        image = noted(camera.token)
        with suppress(MissingFileError):
            if image is not None and not image.holds(camera):
                found.append(camera.token)
    return found


def identified_image(camera: Camera) -> tuple[NDArray[np.uint8], ImageIdentity]:
    """The image of a camera, as `camera_image` gives it, and its identity, from one reading.

    Raises:
        InputError: as ``camera_image``.
    """
    if camera.image is not None:
        image = camera_image(camera)
        return image, ImageIdentity(image.nbytes, 0, hashlib.sha256(image.tobytes()).hexdigest())
    file = camera.file_state()  # before the bytes: what replaces the file in between has another time
    data = camera.stored()
    return camera.decode(data), ImageIdentity(*file, hashlib.sha256(data).hexdigest())
