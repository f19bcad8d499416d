"""What one training step sees: a list of clouds, a list of images and one table of pairs for all times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """The columns of a batch's table of images, see `Batch`."""

    values: Tensor
    clip: Tensor
    offset: Tensor


class Pairs(NamedTuple):
    """The columns of a batch's table of pairs, see `Batch`."""

    point: Tensor
    image: Tensor
    pixel: Tensor
    region: Tensor


class Source(NamedTuple):
    """A scan by its token and its file, and how long before the time of its cloud it was taken [s]."""

    token: str
    file: str
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Clouds, images and pairs of all clips and all times of a step. Times are values in columns, not fields.

    The types are those after `to`. Before, a dataset may give the columns of ``PACKED`` in smaller ones: a batch is
    copied between processes, into pinned memory and to the device as it is, and unpacked there.

    Clouds: K of them, their points concatenated.
        points: (N, 4+) float32 x, y, z [m, augmented lidar frame], intensity [0, 1], ...
        cloud: (N,) int64 row of the cloud a point belongs to, ascending.
        age: (N,) float32 seconds from a point's scan to the cloud's time, below 0 for later scans; None means 0.
        cloud_clip: (K,) int64; cloud_offset: (K,) int64 number of the time around the clip's centre (0, -1, 1, ...):
            key frames, or ranks of seconds, see `times.ClipTimes`.
        cloud_dense: (K,) bool, True for a cloud merged from several scans.
    Images: I of them, all of one size; none when only clouds are asked for, or of logs without cameras.
        images: (I, 3, H, W) float32 RGB in [0, 1], or (I, C, h, w) cached teacher features.
        image_clip, image_offset, image_camera: (I,) int64; a camera of a clip has one number at all times.
        image_space: (I,) int64 what an image's region ids are counted in (`pairing.id_space`): equal ids of two images
            are the same region where this is equal, also in two batches and processes. None: they always are.
        superpixels: (I, H', W') int32 ids, 65535 = ignore; None when regions are not drawn in images.
    Pairs: P of them, of all clouds and images.
        pair_point: (P,) int64 row of ``points``; pair_image: (P,) int64 row of ``images``.
        pair_pixel: (P, 2) float32 u, v [pixel of a view of ``view_size``, column first, centres at whole numbers].
        pair_region: (P,) int64 superpixel id under the pixel (or another region id), -1 where none.
    Labels: (N,) int64 train ids with 255 = ignore, or None.
    Ahead: what a model made of the unpacked batch before its step, for itself; a joined batch has none.
    """

    points: Tensor
    cloud: Tensor
    cloud_clip: Tensor
    cloud_offset: Tensor
    cloud_dense: Tensor
    age: Tensor | None = None
    images: Tensor | None = None
    image_clip: Tensor | None = None
    image_offset: Tensor | None = None
    image_camera: Tensor | None = None
    image_space: Tensor | None = None
    superpixels: Tensor | None = None
    pair_point: Tensor | None = None
    pair_image: Tensor | None = None
    pair_pixel: Tensor | None = None
    pair_region: Tensor | None = None
    labels: Tensor | None = None
    view_size: tuple[int, int] = (0, 0)  # height, width of the view that pair_pixel refers to
    id_scope: str = "batch"  # within what equal region ids are the same region: an image, a clip, a batch
    tokens: tuple[str, ...] = ()  # of the clouds' frames, for reports
    sources: tuple[tuple[Source, ...], ...] = ()  # of each cloud, the scans whose points it holds
    ahead: Any = None

    @classmethod
    def of_cloud(cls, points: Tensor, **given: Any) -> Batch:
        """A batch of one cloud, ``points`` (N, 4+), on the CPU; ``given``: fields without a default, as ``labels``."""
        one = torch.zeros(1, dtype=torch.int64)
        cloud = torch.zeros(len(points), dtype=torch.int64)
        return cls(points, cloud, one, one, torch.zeros(1, dtype=torch.bool), **given)

    @property
    def num_clouds(self) -> int:
        return len(self.cloud_clip)

    @property
    def image_table(self) -> Images:
        """The table of images.

        Raises:
            ValueError: the batch has none, or they are packed.
        """
        if self.images is None or self.image_clip is None or self.image_offset is None:
            raise ValueError(_NO_IMAGES)
        if not self.images.is_floating_point():
            raise ValueError("the images are packed; move the batch to a device with `to`")
        return Images(self.images, self.image_clip, self.image_offset)

    @property
    def pairs(self) -> Pairs:
        """The table of pairs.

        Raises:
            ValueError: the batch has none.
        """
        columns = (self.pair_point, self.pair_image, self.pair_pixel, self.pair_region)
        given = [column for column in columns if column is not None]
        if len(given) < len(columns):
            raise ValueError(_NO_IMAGES)
        return Pairs(*given)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with every tensor on ``device``, unpacked."""
        # values on their way to the CPU would be read before they are there
        away = torch.device(device).type != "cpu"
        batch = self._each(lambda value: value.to(device, non_blocking=away))
        unpacked: dict[str, Any] = {
            name: unpack(value)
            for name, unpack in PACKED.items()
            if (value := getattr(batch, name)) is not None
        }
        return replace(batch, **unpacked)

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU reads by itself; torch's loader calls this where ``pin_memory`` is set."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            f.name: change(value) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)


def _unpack_images(values: Tensor) -> Tensor:
    """RGB 0..255 as [0, 1], cached features as float32."""
    if values.is_floating_point():
        return values.float()
    # by a tensor: CUDA divides by a Python number as a product with its reciprocal, which rounds otherwise
    return values.float() / torch.full((), 255.0, device=values.device)


def _unpack_ids(ids: Tensor) -> Tensor:
    """Ids of 16 bits, those above 32767 held as negative numbers."""
    return ids.int() & 0xFFFF


# field -> how its values are unpacked, as they are where they were not packed
PACKED: dict[str, Callable[[Tensor], Tensor]] = {
    "images": _unpack_images,  # from uint8 or float16
    "superpixels": _unpack_ids,  # from int16
    "cloud": Tensor.long,  # these from uint8 or int32; uint8 rows would choose like a mask, so unpack them first
    "labels": Tensor.long,
    "pair_point": Tensor.long,
    "pair_image": Tensor.long,
    "pair_region": Tensor.long,
}

_NO_IMAGES = "the batch has no images with pairs; build it from a dataset with cameras"

# field -> (what its values count, so that collate knows by how much to shift them)
_SHIFTED = {
    "cloud": "clouds",
    "cloud_clip": "clips",
    "image_clip": "clips",
    "pair_point": "points",
    "pair_image": "images",
}


# fields of the tables of images and pairs: a sample without images adds no rows to them
OF_IMAGES = frozenset(
    ("images", "image_clip", "image_offset", "image_camera", "image_space", "superpixels")
    + ("pair_point", "pair_image", "pair_pixel", "pair_region")
)


def row_type(total: int) -> torch.dtype:
    """What rows of a table of ``total`` rows are packed in."""
    return torch.uint8 if total <= 255 else torch.int32


def _counts(sample: Batch) -> dict[str, int]:
    """Rows of the tables that others point into."""
    return {
        "clouds": sample.num_clouds,
        "clips": int(sample.cloud_clip.max()) + 1 if sample.num_clouds else 0,
        "points": len(sample.points),
        "images": 0 if sample.images is None else len(sample.images),
    }


def _counted_on(rows: Tensor, first: int, total: int) -> Tensor:
    """Rows of a table as those of one of ``total`` rows, in which theirs begin at ``first``."""
    return (rows if total <= torch.iinfo(rows.dtype).max else rows.int()) + first


def collate(samples: Sequence[Batch]) -> Batch:
    """One batch from several; rows that point into other tables are shifted, the samples stay unchanged.

    Samples without images stand beside others with theirs: their points have no pairs.

    Raises:
        ValueError: some samples have a field (superpixels, labels, ...) that others lack.
    """
    seen = [sample for sample in samples if sample.images is not None]
    first, total = dict.fromkeys(_counts(samples[0]), 0), Counter[str]()
    for sample in samples:
        total.update(_counts(sample))
    parts: dict[str, list[Tensor]] = {}
    for sample in samples:
        for f in fields(sample):
            value = getattr(sample, f.name)
            if isinstance(value, Tensor):
                if of_table := _SHIFTED.get(f.name):
                    value = _counted_on(value, first[of_table], total[of_table])
                parts.setdefault(f.name, []).append(value)
        for of_table, count in _counts(sample).items():
            first[of_table] += count
    for name, tensors in parts.items():
        of = len(seen) if name in OF_IMAGES else len(samples)
        if len(tensors) != of:
            raise ValueError(f"{name}: {len(tensors)} of {of} samples have it; all must or none")
    views = {(sample.view_size, sample.id_scope) for sample in seen or samples}
    if len(views) > 1:
        raise ValueError(f"samples of different view sizes or regions {sorted(views)} cannot share a batch")
    view_size, id_scope = views.pop() if views else ((0, 0), "batch")
    joined = {name: torch.cat(tensors) for name, tensors in parts.items()}
    return Batch(
        **joined,
        view_size=view_size,
        id_scope=id_scope,
        tokens=tuple(token for sample in samples for token in sample.tokens),
        sources=tuple(parts for sample in samples for parts in sample.sources),
    )
