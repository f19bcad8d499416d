"""SuperFlow++ pretraining: `Pretrainer.loss` is the algorithm, on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..camera.cache import FeatureCache
from ..camera.teacher import Teacher, make_teacher
from ..clips.batch import Batch
from ..hub.encoder_file import fill_encoder
from ..lidar.encoder import LidarEncoder
from .ahead import Ahead
from .distributed import world_mean, world_size, world_sum
from .matches import (
    CloudsInImages,
    EmbeddedPairs,
    LabelledPoints,
    Members,
    StudentPairs,
    Superpixels,
    Superpoints,
    TargetPairs,
    at_centre,
    clouds_in_images,
    labelled_points,
)
from .objective import Objective, Sizes
from .objectives import OBJECTIVES
from .passes import PointFeatures, check_rules, encode_clouds
from .pixels import PIXELS, ImageFeatures
from .pooling import Weighted, mean_of_members, members_of, region_options
from .regions import RegionTable, region_table

# output of `Pretrainer.loss` -> what it means when it stays 0, and what to do
NEEDS = {
    "pairs": "no LiDAR point falls on an image; look at calibration, poses and units (metres, microseconds) with "
    "`superflow prepare DATASET --check` and its overlays, and at limits and crop of train_dataloader.dataset",
    "loss": "no pair lies in a region that the objectives can compare; look at the regions with "
    "`superflow visualize --superpixels`, and at offsets and region of the config",
}
NEEDS_OF_LABELS = {
    "labelled_points": "no point has a label of a class; look at the label files and the classes of the card with "
    "`superflow prepare DATASET --check`, and at the limits of the training set"
}
NORMALIZATIONS = ("before", "after", "both")


class Pretrainer(nn.Module):
    """A student that learns from a frozen image teacher through a list of objectives.

    Args:
        student: the `LidarEncoder` to pretrain, or its arguments.
        teacher: a frozen `camera.teacher.Teacher`, or the arguments of `make_teacher`; None when the batches carry
            cached features, or when nothing learns from images.
        features: folder of those cached features (`camera.cache`); says how many channels they have and who made them.
        objectives: ``dict(type=..., weight=1.0, **options)`` each; types are the keys of `objectives.OBJECTIVES`.
        num_classes: of the labels that ``segmentation`` learns from.
        channels: size of the shared embedding (published: 64). None: the teacher's features as they are, without a
            trained head on the image's side, so that training cannot choose what to make of them.
        region: options of `pooling.region_options`, see `regions.region_table` and `pooling.members_of`.
        batch_norm: ``dict(dense=..., neighbours=...)``, whether these clouds share the batch statistics of the others,
            see `passes.encode_clouds`.
        pixels: ``all`` pixels of a superpixel (published), or only those ``hit`` by a point.
        normalize: L2 norm ``before`` pooling (published), only ``after``, or ``both``.
        pretrained: backbone whose weights the student begins with: a file, the folder of a run, or a name as
            ``street-tiny``; or what `record` said of it, when all weights are about to come from a checkpoint.

    Raises:
        ValueError: an unknown objective, or options that exclude each other.
    """

    def __init__(
        self,
        student: LidarEncoder | Mapping[str, Any],
        teacher: Teacher | Mapping[str, Any] | None = None,
        *,
        objectives: Sequence[Mapping[str, Any]],
        features: str | Path | None = None,
        num_classes: int | None = None,
        channels: int | None = 64,
        region: Mapping[str, Any] | None = None,
        batch_norm: Mapping[str, str] | None = None,
        pixels: str = "all",
        normalize: str = "before",
        pretrained: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        student = LidarEncoder(**student) if isinstance(student, Mapping) else student
        pretrained = fill_encoder(student, pretrained) if isinstance(pretrained, str) else pretrained
        teacher = make_teacher(**teacher) if isinstance(teacher, Mapping) else teacher
        if normalize not in NORMALIZATIONS or pixels not in PIXELS:
            raise ValueError(
                f"normalize {normalize!r} must be in {NORMALIZATIONS}, pixels {pixels!r} in {tuple(PIXELS)}"
            )
        self.student, self.teacher = student, teacher
        self._described = {
            "kind": "pretrainer",
            "objectives": [dict(entry) for entry in objectives],
            **{"channels": channels, "region": dict(region or {}), "batch_norm": dict(batch_norm or {})},
            **{"pixels": pixels, "normalize": normalize},
            **({} if pretrained is None else {"pretrained": dict(pretrained)}),
        }
        self.batch_norm = check_rules(**(batch_norm or {}))
        self.pixels, self.normalize = PIXELS[pixels], normalize
        self.region, self.pooling = region_options(**(region or {}))
        source, self._teacher_record = _teacher_of(teacher, features)
        width = source if channels is None else channels
        sizes = Sizes(student.out_channels, source, width, num_classes or 0, _scales(teacher, features))
        self._make_objectives(objectives, sizes, own_head=channels is not None)
        if LabelledPoints in self.reads:
            self._described["classes"] = num_classes

    def _make_objectives(
        self, objectives: Sequence[Mapping[str, Any]], sizes: Sizes, *, own_head: bool
    ) -> None:
        """The objectives, and what they need: heads, a teacher, classes."""
        built = build_objectives(objectives, sizes=sizes)
        self.reads = _reads(built.values())
        self.sees_images = self.reads != {LabelledPoints}
        _check_teacher(self.teacher, sizes.teacher, is_needed=self.sees_images)
        self.needs = NEEDS if self.sees_images else NEEDS_OF_LABELS
        if not self.sees_images:
            self._teacher_record = dict
        self._make_heads(sizes, own_head=own_head)
        self.objectives: Any = nn.ModuleDict(built)  # by name; of type Objective, which ModuleDict cannot say
        self.parts = tuple(built)

    def _make_heads(self, sizes: Sizes, *, own_head: bool) -> None:
        """Weights only for what the objectives read: every trainable parameter gets a gradient.

        The head of the images is drawn in any case, so that the others begin with the same weights without it.
        """
        own_head = own_head and sizes.teacher > 0
        image_head = nn.Linear(sizes.teacher, sizes.shared) if own_head else nn.Identity()
        embeds, regresses = self.reads & {Superpoints, EmbeddedPairs}, TargetPairs in self.reads
        self.point_head = nn.Linear(sizes.student, sizes.shared) if embeds else nn.Identity()
        self.image_head = image_head if self.reads & {Superpixels, EmbeddedPairs} else nn.Identity()
        self.regression_head = nn.Linear(sizes.student, sizes.teacher) if regresses else nn.Identity()

    def loss(self, batch: Batch) -> dict[str, Any]:
        """Weighted sum of the objectives under ``loss``, each one and its health, and how much they learned from.

        Every rank reports the joint batch, so that all log the same and stop at the same step; gradients are its own.
        """
        # images first: what a teacher works in is gone before the student holds what its backward pass needs
        maps = self.image_features(batch) if self.sees_images else None
        voxels = encode_clouds(self.student, batch, self.batch_norm)
        # mixed precision is for the networks: sums over thousands of points and logits need float32
        with torch.autocast(batch.points.device.type, enabled=False):
            points = PointFeatures(voxels.features.float(), voxels.inverse)
            found = {} if maps is None else self.match(batch, points, ImageFeatures(maps.float(), batch))
            if LabelledPoints in self.reads:
                found[LabelledPoints] = labelled_points(batch, points)
            terms = {
                name: objective(*(found[kind] for kind in objective.reads))
                for name, objective in self.objectives.items()
            }
        weighted = (self.objectives[name].weight * value for name, value in terms.items())
        total = sum(weighted, start=batch.points.new_zeros(()))
        report = self._of_all_ranks(total, terms, **self._numbers(batch, found))
        for objective in self.objectives.values():
            objective.end_step()
        return report | {"_features": voxels.features.detach()}

    @torch.no_grad()
    def look_ahead(self, batch: Batch) -> Batch:
        """The unpacked batch with what no weight decides of its `loss`, where all clouds share a pass."""
        if set(self.batch_norm.values()) != {"shared"}:
            return batch
        clouds = self.student.begin(batch.points, batch.cloud, batch.num_clouds, batch.age)
        if Superpoints not in self.reads:
            return replace(batch, ahead=Ahead(clouds))
        table, pixels = region_table(batch, **self.region), None
        if self.teacher is None and Superpixels in self.reads and self.normalize == "after":
            pixels = self.pixels.means(ImageFeatures(batch.image_table.values, batch), table)
        voxels = clouds.voxels
        members = members_of(len(voxels.coords), voxels.inverse, batch, table, **self.pooling)
        return replace(batch, ahead=Ahead(clouds, table, members, pixels))

    def _numbers(self, batch: Batch, found: Mapping[type, Any]) -> dict[str, int]:
        """How much of each kind the objectives learned from."""
        numbers: dict[str, int] = {}
        if self.sees_images:
            regions = int(found[Superpoints].of(0)[1].sum()) if Superpoints in found else 0
            numbers |= {"pairs": len(batch.pairs.point), "regions": regions}
        if LabelledPoints in found:
            numbers["labelled_points"] = len(found[LabelledPoints].label)
        return numbers

    def image_features(self, batch: Batch) -> Tensor:
        """(I, T, h, w) frozen features: the batch's own when they were cached, else the teacher's, all in one pass."""
        images = batch.image_table.values
        if self.teacher is None:
            return images
        if not len(images):  # clips of logs without cameras alone
            return images.new_zeros(0, self.teacher.channels, 1, 1)
        return self.teacher(images)

    def match(self, batch: Batch, points: PointFeatures, seen: ImageFeatures) -> dict[type, Any]:
        """Student and teacher features brought together, by region and by pair; those types that objectives read."""
        found: dict[type, Any] = {}
        if TargetPairs in self.reads:
            voxels = self.regression_head(points.features)
            found[TargetPairs] = TargetPairs(voxels, points.inverse[batch.pairs.point], seen.at_pairs)
        if StudentPairs in self.reads:
            voxel = points.inverse[batch.pairs.point]
            found[StudentPairs] = StudentPairs(points.features, voxel, seen.at_pairs)
        if CloudsInImages in self.reads:
            found[CloudsInImages] = clouds_in_images(batch, points, seen)
        embedded = self.point_head(points.features)
        if EmbeddedPairs in self.reads:
            voxel = points.inverse[batch.pairs.point]
            found[EmbeddedPairs] = EmbeddedPairs(embedded, voxel, seen.at_pairs, self.image_head)
        if Superpoints in self.reads:
            table, members = self._regions(batch, points)
            pooled, counts = mean_of_members(self._normalized(embedded, "before"), members)
            teacher = self._teacher_of_regions(seen, table)
            found[Superpoints] = Superpoints(table, self._normalized(pooled, "after"), counts, teacher)
            if Superpixels in self.reads:
                pooled, counts = self._pool_pixels(seen, table)
                found[Superpixels] = Superpixels(table, self._normalized(pooled, "after"), counts)
            if Members in self.reads:
                mine = (table.region >= 0) & at_centre(batch)
                voxel = points.inverse[batch.pairs.point[mine]]
                found[Members] = Members(found[Superpoints], embedded, voxel, table.region[mine])
        return found

    def _regions(self, batch: Batch, points: PointFeatures) -> tuple[RegionTable, Weighted]:
        """The regions of a batch, and what their superpoints are means of."""
        if batch.ahead is not None and batch.ahead.members is not None:
            return batch.ahead.table, batch.ahead.members
        table = region_table(batch, **self.region)
        return table, members_of(len(points.features), points.inverse, batch, table, **self.pooling)

    def _pool_pixels(self, seen: ImageFeatures, table: RegionTable) -> tuple[Tensor, Tensor]:
        """Superpixels. Pooling is linear, so the head may follow it when no norm does."""
        if self.normalize == "after":
            raw, counts = self._raw_means(seen, table)
            return self.image_head(raw), counts
        return self.pixels.means_of_unit(seen, table, self.image_head)

    def _raw_means(self, seen: ImageFeatures, table: RegionTable) -> tuple[Tensor, Tensor]:
        """(times, regions, T) means of the teacher's own features, and counts."""
        known = None if seen.batch.ahead is None else seen.batch.ahead.pixels
        return self.pixels.means(seen, table) if known is None else known

    def _teacher_of_regions(self, seen: ImageFeatures, table: RegionTable) -> Tensor:
        """(regions, T) means over all times: a region that only a neighbour saw looks like something, too.

        T is 0 where no objective compares them.
        """
        if not any(objective.compares_teacher for objective in self.objectives.values()):
            return seen.maps.new_zeros(len(table.ids), 0)
        raw, counts = self._raw_means(seen, table)
        return (raw * counts[:, :, None]).sum(0) / counts.sum(0).clamp(min=1)[:, None]

    def _normalized(self, features: Tensor, stage: str) -> Tensor:
        return F.normalize(features, dim=-1) if self.normalize in (stage, "both") else features

    def _of_all_ranks(self, total: Tensor, terms: dict[str, Tensor], **numbers: int) -> dict[str, Any]:
        """What `loss` returns of these values: the joint batch's, with the gradient of the own.

        Of each contrast also ``_columns``, the mean number of columns that a row was held against, and ``_top1``, the
        share of rows whose own column was the closest.
        """
        loss, *values = world_mean(torch.stack([total, *terms.values()]))
        report: dict[str, Any] = {"loss": total if world_size() == 1 else total + (loss - total.detach())}
        report |= zip(terms, values)
        own = [torch.tensor(list(numbers.values()), device=total.device)]
        own += [sum(part.counts, start=own[0].new_zeros(3)) for part in self.objectives.values()]
        sums = torch.split(world_sum(torch.cat(own)), [len(part) for part in own])
        for (name, objective), counts in zip(self.objectives.items(), sums[1:]):
            rows, columns, right = counts.tolist()
            if rows:
                report |= {f"{name}_columns": columns / rows, f"{name}_top1": right / rows}
            report |= {f"{name}_{key}": value for key, value in objective.state_report().items()}
        return report | dict(zip(numbers, map(float, sums[0].tolist())))

    def record(self) -> dict[str, Any]:
        """Plain data that rebuilds the student, names the teacher and says what was trained; in every checkpoint."""
        teacher = self._teacher_record() or None
        return {**self._described, "encoder": self.student.config(), "teacher": teacher}


def _reads(objectives: Iterable[Objective]) -> set[type]:
    """What these objectives read; what that is made of, too."""
    read = {kind for objective in objectives for kind in objective.reads}
    return read | {Superpoints} if Members in read else read


def build_objectives(entries: Sequence[Mapping[str, Any]], *, sizes: Sizes) -> dict[str, Objective]:
    """The objectives of a config by name, in its order.

    Raises:
        ValueError: there are none, one is unknown or listed twice, or all have the weight 0.
    """
    if not entries:
        raise ValueError("objectives is empty, and nothing would be learned; give at least one")
    built: dict[str, Objective] = {}
    for entry in entries:
        options = dict(entry)
        name = options.pop("type")
        if name not in OBJECTIVES:
            raise ValueError(f"objective {name!r} is unknown; known: {', '.join(OBJECTIVES)}")
        if name in built:
            raise ValueError(
                f"objective {name!r} is listed twice; one entry with the sum of the weights is the same"
            )
        built[name] = OBJECTIVES[name](**options, sizes=sizes)
    if not any(objective.weight for objective in built.values()):
        raise ValueError(
            "all objectives have the weight 0, and nothing would be learned; give one a weight above 0"
        )
    return built


def _teacher_of(
    teacher: Teacher | None, features: str | Path | None
) -> tuple[int, Callable[[], dict[str, Any]]]:
    """Channels of the features that are learned from, and the record of who made them; 0 and nothing without any."""
    if teacher is not None and features is not None:
        raise ValueError("give either a teacher or the folder of its cached features")
    if teacher is not None:
        return teacher.channels, lambda: teacher.record()
    if features is None:
        return 0, dict
    cache = FeatureCache.open(features)
    made_by = dict(cache.record["key"])
    record = {**made_by.pop("teacher"), "cached": made_by}
    return cache.channels, lambda: record


def _check_teacher(teacher: Teacher | None, channels: int, *, is_needed: bool) -> None:
    if is_needed and not channels:
        raise ValueError("give either a teacher or the folder of its cached features")
    if teacher is not None and not is_needed:
        raise ValueError("no objective learns from images, so the teacher would teach nothing; leave it out")


def _scales(teacher: Teacher | None, features: str | Path | None) -> tuple[int, ...]:
    """Channels of the teacher's scales; one where cached features mix them."""
    if teacher is not None:
        return tuple(getattr(teacher, "scale_channels", (teacher.channels,)))
    if features is None:
        return ()
    cache = FeatureCache.open(features)
    key = cache.record["key"]
    return (cache.channels,) if key["components"] else tuple(key["teacher"]["scale_channels"])


def effective_rank(features: Tensor, *, limit: int = 4096) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007); about 1 means collapse."""
    sample = features[:: max(1, len(features) // limit)].float()
    values = torch.linalg.svdvals(sample - sample.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))
