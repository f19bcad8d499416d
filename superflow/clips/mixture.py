"""Clips of several logs in one training set: other sensors, other columns, other numbers of cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..camera.cache import FeatureCache
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from .batch import OF_IMAGES, Batch
from .dataset import PretrainDataset
from .pairing import id_space

_SHARED_COLUMNS = 4  # x, y, z, intensity; what further columns mean differs between logs


class PartOfMixture(PretrainDataset):
    """One of the logs of a `MixtureDataset`.

    Args:
        weight: how often it is drawn in relation to the others. options: those of `PretrainDataset`.
    """

    def __init__(self, *, weight: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.weight = weight


class MixtureDataset:
    """Each item is a clip of one of several logs, drawn by their weights.

    ``dataset[(item, seed)]`` draws the log, its clip and all that is random in it from ``seed`` alone. Points have the
    columns x, y, z, intensity; tokens are dataset/variant/token; regions of two logs are never the same but for ids
    that one model gave in both, such as classes: clusters of two codebooks are told apart. Where the labels of one log
    are read, points of logs without have the class "none". Clips of logs without cameras (parts with ``images=False``)
    train what needs no images; objectives over images see fewer clips.

    Args:
        parts: for each log the options of a `PartOfMixture`.

    Raises:
        InputError: no log, a weight that is not above 0, labels of unlike classes, intensities of unlike scale, or
            views and regions that cannot share a batch.
    """

    draws_by_seed = True  # and so may be drawn from in a thread

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        if not parts:
            raise InputError("parts is empty; give the options of one dataset for each log")
        weights = [part.get("weight", 1.0) for part in parts]
        if not all(isinstance(w, int | float) and np.isfinite(w) and w > 0 for w in weights):
            raise InputError(f"the weights of the parts are {weights}; each must be a number above 0")
        self._tables: dict[str, Any] | None = None
        self._share = np.array(weights, dtype=np.float64) / sum(weights)
        self.parts = [PartOfMixture(**part) for part in parts]
        seeing = [part for part in self.parts if part.images]
        if not seeing:
            raise InputError(
                "all parts have images=False, and pretraining needs some; take one log with cameras, or fine-tune"
            )
        self._seeing = seeing[0]
        self._vocabularies = len({part.ids_by for part in seeing})
        kinds = {(part.views.size, part.id_scope, part.features is None) for part in seeing}
        if len(kinds) > 1:
            raise InputError(
                "the parts differ in views.size, in the kind of their regions, or in whether they have features; give "
                "all of them the same"
            )
        if len({_basis(part.features) for part in seeing}) > 1:
            raise InputError(
                "the features of the parts were made by different teachers or reduced to different directions; make "
                "those of the further logs with `superflow prepare features --reduction-of` the folder of the first "
                "one's features, or train with model.teacher on the images"
            )
        if len({part.raw_intensity for part in self.parts}) > 1:
            raise InputError(
                "some parts have raw_intensity=True and others not, so that one is 255 times as bright as the other; "
                "give all of them the same"
            )
        if len({part.class_names for part in self.parts if part.clouds.labels}) > 1:
            raise InputError(
                "the parts whose labels are read have unlike classes; prepare their logs with cards of the same classes"
            )

    def __len__(self) -> int:
        """Clips of all logs together."""
        return sum(map(len, self.parts))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the train ids of the labels that are read; none where no part reads any."""
        return next((part.class_names for part in self.parts if part.clouds.labels), ())

    @property
    def features(self) -> FeatureCache | None:
        """The cached teacher features of the first log with images; None where those are read."""
        return self._seeing.features

    def record(self) -> dict[str, Any]:
        """What the run's record says of its data: of each log, and what a backbone's card says of all together."""
        records = [{**part.record(), "share": float(s)} for part, s in zip(self.parts, self._share)]
        limits = [record["limits"] for record in records]
        shared = limits[0] if all(other == limits[0] for other in limits) else None
        return {"parts": records, "raw_intensity": records[0]["raw_intensity"], "limits": shared}

    def __getitem__(self, key: tuple[int, int] | int) -> Batch:
        item, seed = key if isinstance(key, tuple) else (key, 0)
        generator = np.random.default_rng([seed, item])
        part = self.parts[int(generator.choice(len(self.parts), p=self._share))]
        clip = part[(int(generator.integers(len(part))), seed)]
        apart = part.ids_by if self._vocabularies > 1 else ""
        clip = clip if part.images else self._with_tables(clip)
        index = part.index
        name = f"{index.card.name}/{index.variant}"
        labels = clip.labels
        if labels is None and self.class_names:
            labels = torch.full((len(clip.points),), IGNORE_LABEL, dtype=torch.uint8)
        return replace(
            clip,
            points=clip.points[:, :_SHARED_COLUMNS],
            labels=labels,
            image_space=clip.image_space
            if clip.image_space is None
            else _of_log(clip.image_space, index.hash, apart),
            tokens=tuple(f"{name}/{token}" for token in clip.tokens),
        )

    def _with_tables(self, clip: Batch) -> Batch:
        """A clip without images with the tables of images and pairs that the others have, and no row in them.

        So that a batch of such clips alone is one like any other.
        """
        if self._tables is None:
            other = self._seeing[(0, 0)]
            values = {name: getattr(other, name) for name in OF_IMAGES}
            self._tables = {name: None if value is None else value[:0] for name, value in values.items()}
        return replace(
            clip, **self._tables, view_size=self._seeing.views.size, id_scope=self._seeing.id_scope
        )


def _basis(cache: FeatureCache | None) -> tuple[str, str]:
    """What the channels of cached features mean: how they were made, and the directions that they were reduced to."""
    if cache is None:
        return "", ""
    return json.dumps(cache.record["key"], sort_keys=True), cache.record["reduction_sha256"]


def _of_log(space: torch.Tensor, log: str, ids_by: str) -> torch.Tensor:
    """Spaces of region ids as those of one log: two logs may have scenes of one name.

    0 is shared by all; where the logs' shared ids were given by several models, ``ids_by`` is theirs.
    """
    shared = torch.full_like(space, id_space(ids_by) if ids_by else 0)
    return torch.where(space == 0, shared, space ^ id_space(log))
