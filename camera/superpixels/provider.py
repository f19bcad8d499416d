"""The table of superpixel providers, and what each of them is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.frame import Camera
from ...errors import InputError, suggest
from ...option_values import Range, check_kind, check_length, check_numbers, kinds_taken

# name -> module:class in this folder; one file and one line a provider
PROVIDERS = {
    "slic": "slic:Slic",
    "clusters": "clusters:Clusters",
    "masks": "masks:Masks",
    "segmenter": "segmenter:Segmenter",
}
# option -> the numbers that mean something there, of whatever provider: beyond them compiled code would find no nearest
# centre, or a model be asked for nothing
RANGES = {
    name: each
    for each, names in {
        Range(1, 20000, whole=True): "segments",
        Range(1, whole=True): "iterations shrink clusters dims fit_images size",
        Range(0, 1e6, above=True): "compactness",
        Range(0, above=True): "temperature std",
        Range(): "mean",
        Range(0, 1): "min_score",
        Range(0, 65535, whole=True): "unlabelled unknown",
        Range(0, 2**32 - 1, whole=True): "seed",
    }.items()
    for name in names.split()
}


class Provider(ABC):
    """Regions of one image at a time; travels to worker processes by pickle.

    Attributes:
        shared_ids: an id means the same in all images of the log (a class, a cluster); otherwise ids count anew
            in every image, and equal ids of two images have nothing to do with each other.
    """

    shared_ids: bool = False

    def fit(self, cameras: Sequence[Camera], folder: Path | None = None) -> Provider:
        """A provider that is ready for these images; what they share is kept in ``folder`` for a resumed run."""
        return self

    @abstractmethod
    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 ids of ``image`` (H, W, 3) uint8 RGB, ``IGNORE`` where no region is; ``token`` names it."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """All options with their values, plain; equal options mean the same regions."""

    def compact(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(h, w) uint16: the ids at the size that they are computed at; ``resize_ids`` to the image's gives those
        of a call.
        """
        return self(image, token)

    def places(self) -> frozenset[str]:
        """Options that name a file or folder; what counts is its content, by ``made_by`` or ``source_sha256``."""
        return frozenset()

    def source_sha256(self, token: str) -> str:
        """Hash of the files that the regions of this image are read from; "" where the provider makes them."""
        return ""

    def made_by(self) -> dict[str, Any]:
        """Models and files behind the regions, with their hashes, once ``fit`` has run; plain values."""
        return {}


def provider_class(name: str) -> Callable[..., Provider]:
    """What makes the provider of this name, with its options as arguments; only its module is imported.

    Raises:
        InputError: unknown name.
    """
    if name not in PROVIDERS:
        raise InputError(f"superpixel provider {name!r} is unknown; choose one of {', '.join(PROVIDERS)}")
    module, _, cls = PROVIDERS[name].partition(":")
    return getattr(import_module(f".{module}", __package__), cls)


def make_provider(name: str, **options: Any) -> Provider:
    """Provider by name; only its module is imported.

    Raises:
        InputError: unknown name; an option that the provider does not have, or a value that it cannot take.
    """
    made = provider_class(name)
    _check_options(name, inspect.signature(made).parameters, options)
    try:
        return made(**options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(
            f"superpixel provider {name}: {error}; see docs/superpixels.md for its options"
        ) from error


def _check_options(name: str, taken: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    of = f"superpixel provider {name}"
    for key in options.keys() - taken.keys():
        raise InputError(f"{of} has no option {key!r}{suggest(key, taken)}")
    for key, parameter in taken.items():
        if key in options:
            check_kind(options[key], f"{of}: {key}", kinds_taken(parameter.annotation, parameter.default))
            check_length(options[key], f"{of}: {key}", parameter.annotation)
            if rule := RANGES.get(key):
                check_numbers(options[key], f"{of}: {key}", rule)
        elif parameter.default is inspect.Parameter.empty:
            raise InputError(f"{of} needs the option {key!r}; see docs/superpixels.md for what it is")


def make_superpixels(
    provider: str, image: NDArray[np.uint8], *, token: str = "", **options: Any
) -> NDArray[np.uint16]:
    """(H, W) uint16 region ids of ``image`` (H, W, 3) uint8 RGB; 65535 is no region.

    A provider that learns from a log (``clusters``) learns from this image alone; use ``write_superpixels`` for
    ids that are shared by the images of a log.

    Args:
        provider: a key of ``PROVIDERS``.
        token: name of the image, for providers that read files (``masks``).
        options: of the provider.

    Raises:
        InputError: unknown provider or option, unusable files.
        ValueError: the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"image must be (H, W, 3) uint8 with at least a pixel, not {image.shape} {image.dtype}"
        )
    eye = np.eye(4)
    camera = Camera(token, "", 0, np.eye(3), eye, eye, "", (image.shape[0], image.shape[1]), image)
    return make_provider(provider, **options).fit([camera])(image, token)
