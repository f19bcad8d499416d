"""SuperFlow++ pretraining: `Pretrainer.loss` is the algorithm, on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..camera.cache import FeatureCache
from ..clips.batch import Batch
from ..errors import InputError
from .distributed import world_mean, world_size, world_sum
from .matches import Matches
from .negatives import LearnedTemperature, NegativeQueue
from .objectives import OBJECTIVES
from .passes import PointFeatures, check_rules, encode_clouds
from .regions import (
    RegionTable,
    pool_hits,
    pool_patches,
    pool_pixels,
    pool_points,
    region_table,
    sample_pixels,
)

if TYPE_CHECKING:
    from ..camera.teacher import Teacher
    from ..lidar.encoder import LidarEncoder

# output of `Pretrainer.loss` -> what it means when it stays 0, and what to do
NEEDS = {
    "pairs": "no LiDAR point falls on an image; look at calibration, poses and units (metres, microseconds) with "
    "`superflow prepare nuscenes --check` and its overlays, and at limits and crop of train_dataloader.dataset",
    "loss": "no pair lies in a region that the objectives can compare; look at the regions with "
    "`superflow visualize --superpixels`, and at offsets and region of the config",
}
NORMALIZATIONS = ("before", "after", "both")
PIXELS = ("all", "hit")


class Pretrainer(nn.Module):
    """A student that learns from a frozen image teacher through a list of objectives.

    Args:
        student: the `LidarEncoder` to pretrain.
        teacher: a frozen `camera.teacher.Teacher`, or None when the batches carry cached features.
        features: folder of those cached features (`camera.cache`); says how many channels they have and who made them.
        objectives: ``dict(type=..., weight=1.0, **options)`` each; types are the keys of `objectives.OBJECTIVES`.
            Contrasts also take ``learn_temperature=True``, which trains the temperature from its given value.
        channels: size of the shared embedding (published: 64). None: the teacher's features as they are, without a
            trained head on the image's side, so that training cannot choose what to make of them.
        region: ``dict(scope=..., ignore=..., weighting=..., range_power=..., min_points=...)``, see
            `regions.region_table` and `regions.pool_points`.
        batch_norm: ``dict(dense=..., neighbours=...)``, whether these clouds share the batch statistics of the others,
            see `passes.encode_clouds`.
        pixels: ``all`` pixels of a superpixel (published), or only those ``hit`` by a point.
        normalize: L2 norm ``before`` pooling (published), only ``after``, or ``both``. With ``after`` no
            full-resolution image map is ever built.

    Raises:
        ValueError: an unknown objective, or options that exclude each other.
    """

    needs = NEEDS

    def __init__(
        self,
        student: LidarEncoder,
        teacher: Teacher | None = None,
        *,
        objectives: Sequence[Mapping[str, Any]],
        features: str | Path | None = None,
        channels: int | None = 64,
        region: Mapping[str, Any] | None = None,
        batch_norm: Mapping[str, str] | None = None,
        pixels: str = "all",
        normalize: str = "before",
    ) -> None:
        super().__init__()
        if (teacher is None) == (features is None):
            raise ValueError("give either a teacher or the folder of its cached features")
        if normalize not in NORMALIZATIONS or pixels not in PIXELS:
            raise ValueError(
                f"normalize {normalize!r} must be in {NORMALIZATIONS}, pixels {pixels!r} in {PIXELS}"
            )
        self.student, self.teacher = student, teacher
        self._described = {
            "kind": "pretrainer",
            "objectives": [dict(entry) for entry in objectives],
            "channels": channels,
            "region": dict(region or {}),
            "batch_norm": dict(batch_norm or {}),
            "pixels": pixels,
            "normalize": normalize,
        }
        self.objectives = _terms(objectives)
        self.parts = tuple(term.name for term in self.objectives)
        self.batch_norm = check_rules(batch_norm or {})
        self.pixels, self.normalize = pixels, normalize
        region = dict(region or {})
        pooling = ("weighting", "range_power", "min_points")
        self.pooling = {name: region.pop(name) for name in pooling if name in region}
        self.region = region
        cache = None if features is None else FeatureCache.open(features)
        source = teacher.channels if cache is None else cache.channels
        self._cache_record = None if cache is None else cache.record
        self.reads = frozenset().union(*(term.reads for term in self.objectives))
        # heads exist only for what the objectives read: every trainable parameter gets a gradient
        point, image = (
            bool(self.reads & {kind, "embedded pairs"}) for kind in ("superpoints", "superpixels")
        )
        width = source if channels is None else channels
        image_head = nn.Identity() if channels is None else nn.Linear(source, channels)
        self.point_head = nn.Linear(student.out_channels, width) if point else None
        self.image_head = image_head if image else None
        self.regression_head = nn.Linear(student.out_channels, source) if "pairs" in self.reads else None
        self.temperatures: Any = nn.ModuleDict()
        self.queues: Any = nn.ModuleDict()
        for term in self.objectives:
            if term.options.pop("learn_temperature", False):
                self.temperatures[term.name] = LearnedTemperature(term.options.pop("temperature", 0.07))
            if size := term.options.pop("queue", None):
                seen = 0 if term.options.get("tolerance") is None else source
                self.queues[term.name] = NegativeQueue(size, width, seen)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted sum of the objectives under ``loss``, each one, and how many pairs and rows carried them.

        Every rank reports the joint batch, so that all log the same and stop at the same step; gradients are its own.
        """
        voxels = encode_clouds(self.student, batch, self.batch_norm)
        images = self.image_features(batch)
        # mixed precision is for the networks: sums over thousands of points and logits need float32
        with torch.autocast(batch.points.device.type, enabled=False):
            matches = self.match(
                batch, PointFeatures(voxels.features.float(), voxels.inverse), images.float()
            )
            terms = {term.name: self._term(term, matches) for term in self.objectives}
        weighted = (term.weight * terms[term.name] for term in self.objectives)
        total = sum(weighted, start=batch.points.new_zeros(()))
        for queue in self.queues.values():
            queue.commit()

        rows = 0 if matches.points is None else int((matches.points[matches.slot(0)] > 0).sum())
        report = self._of_all_ranks(total, terms, pairs=len(batch.pair_point), rows=rows)
        return report | {"_features": voxels.features.detach()}

    def _of_all_ranks(self, total: Tensor, terms: dict[str, Tensor], **counts: int) -> dict[str, Any]:
        """What `loss` returns of these values: the joint batch's, with the gradient of the own."""
        loss, *values = world_mean(torch.stack([total, *terms.values()]))
        sums = world_sum(total.new_tensor(list(counts.values()), dtype=torch.int64)).tolist()
        report: dict[str, Any] = {"loss": total if world_size() == 1 else total + (loss - total.detach())}
        report |= zip(terms, values)
        report |= {f"{name}_temperature": self.temperatures[name]().detach() for name in self.temperatures}
        return report | dict(zip(counts, map(float, sums)))

    def _term(self, term: Term, matches: Matches) -> Tensor:
        """One objective's value, with what it remembers and learns."""
        options = dict(term.options)
        if term.name in self.queues:
            options["queue"] = self.queues[term.name]
        if term.name not in self.temperatures:
            return term.function(matches, **options)
        temperature = self.temperatures[term.name]()
        # a term without rows must still give the temperature a gradient, of zero, like on the other ranks
        return term.function(matches, temperature=temperature, **options) + 0.0 * temperature.sum()

    def image_features(self, batch: Batch) -> Tensor:
        """(I, T, h, w) frozen features: the batch's own when they were cached, else the teacher's, all in one pass."""
        return batch.images if self.teacher is None else self.teacher(batch.images)

    def match(self, batch: Batch, voxels: PointFeatures, images: Tensor) -> Matches:
        """Student and teacher features brought together: by region, by pair, or both, as the objectives ask."""
        found: dict[str, Any] = {}
        by_pair = self.reads & {"pairs", "embedded pairs"}
        pair_pixel = None
        if by_pair or ("superpixels" in self.reads and self.pixels == "hit"):
            pair_pixel = sample_pixels(images, batch, batch.view_size)
        if by_pair:
            found |= {"pair_voxel": voxels.inverse[batch.pair_point], "pair_pixel": pair_pixel}
        if "pairs" in self.reads:
            found["voxels"] = self.regression_head(voxels.features)
        embedded = None if self.point_head is None else self.point_head(voxels.features)
        if "embedded pairs" in self.reads:
            found |= {"embedded": embedded, "image_head": self.image_head}
        if "superpoints" in self.reads:
            found["table"] = table = region_table(batch, **self.region)
            points = self._normalized(embedded, "before")
            pooled, counts = pool_points(points, voxels.inverse, batch, table, **self.pooling)
            found |= {"superpoints": self._normalized(pooled, "after"), "points": counts}
            if any(term.options.get("tolerance") is not None for term in self.objectives):
                found["teacher_rows"] = self._teacher_rows(images, batch, table)
        if "superpixels" in self.reads:
            if self.pixels == "hit":
                pooled, counts = self._pool_hits(pair_pixel, batch, table)
            else:
                pooled, counts = self._pool_all(images, batch, table)
            found |= {"superpixels": self._normalized(pooled, "after"), "pixels": counts}
        return Matches(**found)

    def _pool_hits(self, pair_pixel: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
        """Superpixels from the pixels under points. Pooling is linear, so the head may follow it when no norm does."""
        if self.normalize == "after":
            raw, counts = pool_hits(pair_pixel, batch, table)
            return self.image_head(raw), counts
        return pool_hits(self._normalized(self.image_head(pair_pixel), "before"), batch, table)

    def _pool_all(self, images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
        """Superpixels from all their pixels: by one sparse matrix, or by the published per-pixel route."""
        _needs_maps(batch)
        if self.normalize == "after":
            raw, counts = pool_patches(images, batch, table)
            return self.image_head(raw), counts
        embedded = self.image_head(images.movedim(1, -1)).movedim(-1, 1)
        return pool_pixels(embedded, batch, table)

    def _teacher_rows(self, images: Tensor, batch: Batch, table: RegionTable) -> Tensor:
        """(rows, T) teacher means over all times: a region that only a neighbour saw looks like something, too."""
        if self.pixels == "hit":
            raw, counts = pool_hits(sample_pixels(images, batch, batch.view_size), batch, table)
        else:
            _needs_maps(batch)
            raw, counts = pool_patches(images, batch, table)
        return (raw * counts[:, :, None]).sum(0) / counts.sum(0).clamp(min=1)[:, None]

    def _normalized(self, features: Tensor, stage: str) -> Tensor:
        return F.normalize(features, dim=-1) if self.normalize in (stage, "both") else features

    def record(self) -> dict[str, Any]:
        """Plain data that rebuilds the student, names the teacher and says what was trained; in every checkpoint."""
        if self._cache_record is None:
            teacher = self.teacher.record()
        else:
            made_by = dict(self._cache_record["key"])
            teacher = {**made_by.pop("teacher"), "cached": made_by}
        return {**self._described, "encoder": self.student.config(), "teacher": teacher}


class Term(NamedTuple):
    """One entry of the config's list of objectives; see `objectives.OBJECTIVES`."""

    name: str
    weight: float
    options: dict[str, Any]
    reads: frozenset[str]
    function: Callable[..., Tensor]


def _needs_maps(batch: Batch) -> None:
    if batch.superpixels is None:
        raise InputError('pixels="all" needs superpixel maps; regions without maps have pixels="hit" only')


def _terms(objectives: Sequence[Mapping[str, Any]]) -> list[Term]:
    terms: list[Term] = []
    for entry in objectives:
        options = dict(entry)
        name, weight = options.pop("type"), float(options.pop("weight", 1.0))
        if name not in OBJECTIVES:
            raise ValueError(f"objective {name!r} is unknown; known: {', '.join(OBJECTIVES)}")
        if any(term.name == name for term in terms):
            raise ValueError(
                f"objective {name!r} is listed twice; one entry with the sum of the weights is the same"
            )
        function, reads = OBJECTIVES[name]
        terms.append(Term(name, weight, options, reads, function))
    return terms


def effective_rank(features: Tensor, *, limit: int = 4096) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007); about 1 means collapse."""
    sample = features[:: max(1, len(features) // limit)].float()
    values = torch.linalg.svdvals(sample - sample.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))
