"""Regions that another program has drawn: a folder of PNG files, one label map or many masks an image."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...errors import InputError, MissingFileError
from ...files.access import file_in, reading
from .ids import IGNORE, as_ids
from .provider import Provider

_GREY_STEPS = {"L;2": 85, "L;4": 17}  # by which Pillow spreads the few levels of such a PNG over 0 to 255


@dataclass(frozen=True)
class Masks(Provider):
    """Provider that reads ``source/<token>.png`` or all PNG in ``source/<token>/``.

    A label map is a grey or palette PNG; its values are the ids (65535 is no region). A folder of
    masks has one PNG a region, non-zero inside; ids count them from the largest to the smallest (equal ones by
    file name), a smaller mask lies on top, and pixels of no mask have no region.

    Attributes:
        source: folder of the files.
        unlabelled: value of a label map that means no region, for instance 0 or 255; None if there is none.
        shared_ids: the values are classes, the same in all images.
    """

    source: str
    unlabelled: int | None = None
    shared_ids: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", str(self.source))  # a Path would not go into a record

    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 ids of the image named ``token``.

        Raises:
            MissingFileError, InputError: no file of that image; not a map of ids; of another size than the image.
        """
        file = file_in(self.source, f"{token}.png")
        parts = Path(self.source) / token
        if file.is_file():
            regions = read_ids(file).astype(np.int64)
            if self.unlabelled is not None:
                regions[regions == self.unlabelled] = IGNORE
        elif token and parts.is_dir():
            regions = paint(sorted(parts.glob("*.png")), parts)
        else:
            raise MissingFileError(
                f"{file}: no mask file of this image, nor a folder {token!r} of masks; "
                "name the files by camera token or point the folder at the right place"
            )
        if regions.shape != image.shape[:2]:
            raise InputError(
                f"{file}: the masks are {regions.shape[0]} x {regions.shape[1]} (height x width) but the image is "
                f"{image.shape[0]} x {image.shape[1]}; make masks at the size of the image"
            )
        return as_ids(regions, str(file))

    def options(self) -> dict[str, Any]:
        """All options with their values."""
        return asdict(self)

    def places(self) -> frozenset[str]:
        """The folder: ``source_sha256`` tells what of it an image has."""
        return frozenset({"source"})

    def source_sha256(self, token: str) -> str:
        """Hash of the files of the image named ``token``; "" where there are none."""
        file, parts = file_in(self.source, f"{token}.png"), Path(self.source) / token
        files = [file] if file.is_file() else sorted(parts.glob("*.png"))
        digest = hashlib.sha256()
        for one in files:
            with reading(one):
                digest.update(f"{one.name}\0{one.stat().st_size}\0".encode())
                digest.update(one.read_bytes())
        return digest.hexdigest() if files else ""


def read_ids(path: str | Path) -> NDArray:
    """(H, W) values of a grey or palette PNG as stored, of 1 to 16 bits.

    Raises:
        MissingFileError, InputError: no such file; not an image; a colour image.
    """
    return open_ids(path)[0]


def open_ids(path: str | Path) -> tuple[NDArray, dict[Any, Any]]:
    """What ``read_ids`` returns, and the texts that lie in the file beside it."""
    try:
        with Image.open(path) as picture:
            step = _GREY_STEPS.get(_raw_mode(picture), 1)
            values = np.asarray(picture) // np.uint8(step) if step > 1 else np.asarray(picture)
            texts = dict(picture.info)
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: this file of region ids does not exist; write the superpixels first"
        ) from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as PNG ({error}); delete it and write it again") from error
    if values.ndim != 2:
        raise InputError(f"{path}: has {values.shape[2]} channels; region ids need a grey or palette PNG")
    return values, texts


def _raw_mode(picture: Image.Image) -> str:
    """How the pixels lie in the file, as Pillow names it; before they are read."""
    tiles = getattr(picture, "tile", ())
    return str(tiles[0][3]) if tiles else ""


def paint(files: list[Path], source: Path) -> NDArray[np.int64]:
    """(H, W) int64: masks laid over each other, the largest below; ``IGNORE`` where none is.

    Raises:
        InputError: no masks, masks of different sizes, or more than ids can number.
    """
    if not files or len(files) > IGNORE:
        raise InputError(f"{source}: holds {len(files)} masks; 1 to {IGNORE} are possible")
    sizes, areas = set(), {}
    for file in files:  # read twice: hundreds of masks of a large image would fill the memory
        mask = read_ids(file)
        sizes.add(mask.shape)
        areas[file] = np.count_nonzero(mask)
    if len(sizes) > 1:
        raise InputError(
            f"{source}: its masks have different sizes; make all of them at the size of the image"
        )
    regions = np.full(sizes.pop(), IGNORE, dtype=np.int64)
    for number, file in enumerate(sorted(files, key=lambda file: (-areas[file], file.name))):
        regions[read_ids(file) != 0] = number
    return regions
