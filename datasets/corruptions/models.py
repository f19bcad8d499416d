"""The table of corruptions, and scans corrupted by name: a variant is CORRUPTION/LEVEL, as ``fog/heavy``.

Models and strengths of Robo3D (Kong et al. 2023), from their formulas.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, suggest
from ..card import DatasetCard
from ..cloud import Cloud
from .domain import LEVELS, Corrupted, Domain
from .faults import beam_missing, cross_sensor, crosstalk, incomplete_echo, motion_blur
from .fog import fog
from .snow import snow
from .wet_ground import wet_ground

SEED = 1205
CORRECTED = "corrected"  # third part of a variant: without the mistakes of the published code
Model = Callable[[Cloud, NDArray[np.uint8] | None, int, np.random.Generator, Domain], Corrupted]

CORRUPTIONS: dict[str, Model] = {
    "fog": fog,
    "wet_ground": wet_ground,
    "snow": snow,
    "motion_blur": motion_blur,
    "beam_missing": beam_missing,
    "crosstalk": crosstalk,
    "incomplete_echo": incomplete_echo,
    "cross_sensor": cross_sensor,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One corruption at one level."""

    corruption: str
    level: int
    is_published: bool = True

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Of ``fog/heavy`` or, without the mistakes of the published code, ``fog/heavy/corrected``.

        Raises:
            InputError: there is no such corruption or level.
        """
        corruption, _, rest = text.partition("/")
        level, _, how = rest.partition("/")
        if corruption not in CORRUPTIONS:
            raise InputError(
                f"variant {text!r}: there is no corruption {corruption!r}{suggest(corruption, CORRUPTIONS)}"
            )
        if level not in LEVELS or how not in ("", CORRECTED):
            raise InputError(
                f"variant {text!r}: give {corruption}/LEVEL or {corruption}/LEVEL/{CORRECTED} with a level of "
                f"{', '.join(LEVELS)}"
            )
        return cls(corruption, LEVELS.index(level), not how)

    def __str__(self) -> str:
        return f"{self.corruption}/{LEVELS[self.level]}" + ("" if self.is_published else f"/{CORRECTED}")


def lacks(corruption: str, card: DatasetCard) -> str:
    """What a model needs and labelled scans of a dataset have not, in a word; empty where they have all."""
    domain = Domain.of(card)
    if corruption in ("wet_ground", "snow") and not card.has_intensity:
        return "intensities"
    if corruption == "wet_ground" and not domain.ground:
        return "a class of ground"
    return "a class of vehicles" if corruption == "incomplete_echo" and not domain.vehicles else ""


def all_variants(*, is_published: bool = True) -> list[Variant]:
    """Every corruption at every level."""
    return [Variant(name, level, is_published) for name in CORRUPTIONS for level in range(len(LEVELS))]


def chosen_variants(names: Sequence[str], *, is_published: bool = True) -> list[Variant]:
    """The variants of these names, each once and in the order of the table: all levels of a corruption, or one.

    Args:
        names: such as ``fog`` and ``snow/heavy``; none for all.

    Raises:
        InputError: there is no such corruption or level.
    """
    every = all_variants(is_published=is_published)
    if not names:
        return every
    wanted = {
        text
        for name in names
        for text in ([name] if "/" in name else [f"{name}/{level}" for level in LEVELS])
    }
    known = {(v.corruption, v.level) for v in map(Variant.parse, wanted)}
    return [variant for variant in every if (variant.corruption, variant.level) in known]


def corrupt(
    cloud: Cloud,
    labels: NDArray[np.uint8] | None,
    variant: Variant,
    domain: Domain,
    *,
    token: str,
    seed: int = SEED,
) -> Corrupted:
    """A scan corrupted, the same whenever and wherever it is read.

    Args:
        labels: (N,) train ids, where there are some. token: name of the scan, of which chance depends.

    Raises:
        InputError: the model needs labels, intensities or classes that are not there.
    """
    if not len(cloud):
        return Corrupted(cloud, np.empty(0, np.int64), np.empty(0, np.uint8))
    chance = [seed, *(zlib.crc32(name.encode()) for name in (str(variant), token))]
    model = CORRUPTIONS[variant.corruption]
    return model(cloud, labels, variant.level, np.random.default_rng(chance), domain)
