"""One file of region ids: a 16-bit PNG at the size that the ids were computed at, with a note of what it is of.

The note is a text chunk in the same file, so that it can neither be lost nor belong to other ids.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..crops import resize_ids
from ..identity import ImageIdentity
from .masks import open_ids

_NOTE = "superflow"  # keyword of the chunk
_LARGEST_SIDE = 65535  # pixels; more can only be damage
# rows as they are: ids repeat, so that zlib finds as much without PNG's filters, which take longer than it does
_AS_THEY_ARE = [cv2.IMWRITE_PNG_COMPRESSION, 3]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # not in older OpenCV
    _AS_THEY_ARE += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
_HEADER_END = 33  # bytes of a PNG's signature and its first chunk, which says the size


@dataclass(frozen=True, slots=True)
class MapNote:
    """What a map is of.

    size: height, width of its image. image: which one. source_sha256: of the files that a provider read its regions
    from, "" where it made them.
    """

    size: tuple[int, int]
    image: ImageIdentity
    source_sha256: str = ""


def encode_map(ids: NDArray[np.uint16], note: MapNote) -> bytes:
    """A PNG of ``ids`` (h, w), which may be fewer than the pixels of the image; of 8 bits where they fit in these."""
    # 8 bits are written and read faster than 16
    stored = ids.astype(np.uint8) if ids.max(initial=0) <= 255 else ids
    ok, data = cv2.imencode(".png", stored, _AS_THEY_ARE)
    assert ok
    values = {"size": list(note.size), "image": note.image.to_dict(), "source_sha256": note.source_sha256}
    text = b"tEXt" + _NOTE.encode() + b"\0" + json.dumps(values).encode("ascii")
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    png = data.tobytes()
    return png[:_HEADER_END] + chunk + png[_HEADER_END:]


def read_map(path: Path) -> NDArray[np.uint16]:
    """(H, W) ids at the size of the image: each pixel has the id of the nearest one stored.

    Raises:
        MissingFileError, InputError: no such file; not a map of ids.
    """
    values, texts = open_ids(path)
    note = _note(texts)
    return (values if note is None else resize_ids(values, note.size)).astype(np.uint16, copy=False)


def read_note(path: Path) -> MapNote | None:
    """The note of a map; None where there is no such map, or none that says what it is of."""
    try:
        with Image.open(path) as picture:
            return _note(picture.info)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None


def _note(info: dict[Any, Any]) -> MapNote | None:
    try:
        values = json.loads(info[_NOTE])
        (height, width), source = values["size"], values["source_sha256"]
        image = ImageIdentity.from_dict(values["image"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    sides = all(type(side) is int and 0 < side <= _LARGEST_SIDE for side in (height, width))
    return (
        MapNote((height, width), image, source)
        if sides and image is not None and type(source) is str
        else None
    )
