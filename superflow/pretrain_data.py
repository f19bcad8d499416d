"""From a prepared log to pretraining samples: clouds of several times, their images, and who sees what."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .batch import Batch
from .camera.superpixels import read_record
from .clip_times import ClipTimes
from .datasets.frame import Clip, Frame
from .datasets.index import LogIndex
from .datasets.merge import merge_sweeps
from .errors import InputError
from .image_views import ImageViews, View
from .lidar.augment import augment
from .lidar.viewpoint import draw_spot, thin_as_from
from .limits import Count, Limits, draw_count
from .pairing import FramePairs, ids_under, nearest_of_region, pair, world_cells
from .protocol import data_record

_log = logging.getLogger(__name__)

REGIONS = ("superpixel", "world_cell")


@dataclass(frozen=True, slots=True)
class _Cloud:
    """One cloud of a sample before augmentation."""

    points: NDArray[np.float32]
    pairs: FramePairs
    frame: Frame
    offset: int
    dense: bool
    age: NDArray[np.float32]  # (N,) seconds before the frame
    spot: NDArray[np.float32]  # (2,) x, y that become the origin


class PretrainDataset:
    """Samples of one clip each; item i is the i-th chosen key frame with its neighbours.

    ``dataset[(item, seed)]`` draws everything random from ``seed`` alone, so a resumed run sees the same data.

    Args:
        index: a prepared log (`LogIndex` or its folder).
        frames: which key frames are centres, see `LogIndex.rows`; neighbours come only from these frames too.
        offsets, offset_unit, offset_tolerance_s, border: the times of a clip, see `clip_times.ClipTimes`.
        sweeps, sweeps_after: scans before and after the centre that are merged into a dense cloud; both 0 for none.
        max_sweep_age_s: leave out scans further away in time than this.
        drop_moving: leave out points of sweeps where the centre's scan looks through, see `datasets.moving`.
        cameras_per_clip: cameras drawn a clip, the same for all its times (published: 3); None for all.
        view_size, crop, flip, antialias, features: how the teacher sees an image, see `image_views.ImageViews`.
        superpixels: folder of superpixel maps; needed for region ``superpixel``.
        region: what a region is: a ``superpixel``, or a ``world_cell`` of ``cell_m`` metres.
        occlusion, occlusion_cell_px: leave out points that the image does not show, see `pairing.pair`.
        one_depth_per_superpixel: leave out points clearly behind the nearest one of their superpixel, see
            `pairing.nearest_of_region`; only for superpixels that are things, not classes.
        limits: region of points kept, `Limits` or a dict of its fields.
        max_points, sweep_points: random points kept of each cloud, and of each sweep: a number, or a pair between
            which it is drawn anew for each (`limits.draw_count`).
        augmentation: options of `lidar.augment.augment`; ``share_dense`` gives the dense cloud the sparse one's draw.
        shuffle_pairs: permute the points of the pairs within each cloud: the null experiment.
        viewpoint_m: each time's scan is thinned, and its coordinates shifted, as if its scanner had stood at a random
            spot up to so many metres away, see `lidar.viewpoint`; needs ``max_points``. 0 leaves it where it was.
        keep_frames: prepared frames kept in memory; for small logs, about 4 MB each.
    """

    def __init__(
        self,
        index: LogIndex | str | Path,
        *,
        frames: str | Sequence[str] | None = None,
        offsets: Sequence[float] = (-1, 0, 1),
        offset_unit: str = "frames",
        offset_tolerance_s: float | None = None,
        border: str = "absent",
        sweeps: int = 2,
        sweeps_after: int = 0,
        max_sweep_age_s: float | None = None,
        drop_moving: bool = False,
        cameras_per_clip: int | None = 3,
        view_size: tuple[int, int] = (224, 448),
        crop: Mapping[str, Any] | None = None,
        flip: float = 0.5,
        antialias: bool = True,
        features: str | Path | None = None,
        superpixels: str | Path | None = None,
        region: str = "superpixel",
        cell_m: float = 1.0,
        occlusion: bool = True,
        occlusion_cell_px: int = 4,
        one_depth_per_superpixel: bool = False,
        limits: Limits | dict[str, Any] | None = None,
        max_points: Count = None,
        sweep_points: Count = None,
        augmentation: Mapping[str, Any] | None = None,
        share_dense: bool = False,
        shuffle_pairs: bool = False,
        raw_intensity: bool = False,
        viewpoint_m: float = 0.0,
        keep_frames: int = 0,
    ) -> None:
        self.index = index if isinstance(index, LogIndex) else LogIndex.open(index)
        self.rows = self.index.rows(frames)
        if not len(self.rows):
            raise ValueError(f"frames {frames!r} select no key frame of {self.index.folder}")
        self.rows = self._with_images(self.rows)
        if region not in REGIONS:
            raise ValueError(f"region {region!r} is unknown; use one of {', '.join(REGIONS)}")
        self.times = ClipTimes(
            self.index, self.rows, offsets, unit=offset_unit, tolerance_s=offset_tolerance_s, border=border
        )
        self.sweeps, self.sweeps_after = sweeps, sweeps_after
        self.merging: dict[str, Any] = {"max_age_s": max_sweep_age_s, "drop_moving": drop_moving}
        self.cameras_per_clip = cameras_per_clip
        self.region, self.cell_m = region, cell_m
        if region == "world_cell":
            self.region_scope = "clip"  # cells are numbered anew in each clip
        elif superpixels is None:
            raise ValueError('region "superpixel" needs superpixels=FOLDER of the prepared maps')
        else:
            self.region_scope = "batch" if read_record(Path(superpixels))["shared_ids"] else "image"
        self.views = ImageViews(
            view_size,
            crop=crop,
            flip=flip,
            antialias=antialias,
            features=features,
            superpixels=Path(superpixels) if region == "superpixel" and superpixels is not None else None,
        )
        self.hiding: dict[str, Any] = {"occlusion": occlusion, "cell_px": occlusion_cell_px}
        self.one_depth_per_superpixel = one_depth_per_superpixel
        self.limits = Limits.from_record(limits)
        self.max_points, self.sweep_points = max_points, sweep_points
        self.augmentation, self.share_dense = dict(augmentation or {}), share_dense
        if viewpoint_m and max_points is None:
            raise ValueError("viewpoint_m thins clouds; say to how many points with max_points")
        self.viewpoint_m = viewpoint_m
        self.shuffle_pairs, self.raw_intensity = shuffle_pairs, raw_intensity
        self._kept: OrderedDict[int, tuple[Frame, FramePairs]] = OrderedDict()
        self.keep_frames = keep_frames

    def _with_images(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``rows`` that a camera saw; a dropped picture leaves out its frame, not the run."""
        kept = self.index.camera_count[rows] > 0
        if not kept.any():
            raise InputError(
                f"{self.index.root}: none of the {len(rows)} chosen frames has a camera image, and pretraining needs "
                "some; choose other frames in train_dataloader.dataset.frames"
            )
        if not kept.all():
            _log.info(
                "%d of %d chosen frames have no camera image and are left out", (~kept).sum(), len(rows)
            )
        return rows[kept]

    def __len__(self) -> int:
        return len(self.rows)

    def record(self) -> dict[str, Any]:
        """What the run's record says of its data."""
        return data_record(self.index, self.rows, limits=self.limits, raw_intensity=self.raw_intensity)

    def __getitem__(self, key: tuple[int, int] | int) -> Batch:
        item, seed = key if isinstance(key, tuple) else (key, 0)
        generator = np.random.default_rng([seed, item])
        rows = self.times.rows(int(self.rows[item]))
        channels = self._draw_cameras(rows[0], generator)
        clouds = [self._sparse(row, offset, channels, generator) for offset, row in sorted(rows.items())]
        if self.sweeps or self.sweeps_after:
            clouds.append(self._dense(rows[0], channels, generator))
        views = self._views(clouds, channels, generator)
        if not views:
            frame = clouds[0].frame
            raise InputError(
                f"frame {frame.token} of {frame.scene} has no camera image, and pretraining needs some; "
                "choose other frames in train_dataloader.dataset.frames"
            )
        return self._assemble(clouds, views, generator)

    def _frame(self, row: int) -> tuple[Frame, FramePairs]:
        """A frame with the points of the chosen range, and the pairs of all its cameras."""
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        frame = self.index.frame(row, images=False, labels=False, raw_intensity=self.raw_intensity)
        # occlusion is judged with the whole cloud: a point left out still hides what is behind it
        pairs = pair(frame, frame.points, frame.cameras, **self.hiding)
        kept = self._in_limits(frame.points)
        prepared = (replace(frame, points=frame.points[kept]), pairs.of(kept, range(len(frame.cameras))))
        if self.keep_frames:
            self._kept[row] = prepared
            if len(self._kept) > self.keep_frames:
                self._kept.popitem(last=False)
        return prepared

    def _in_limits(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rows of the points that the student sees."""
        if self.limits is None:
            return np.arange(len(points))
        return np.flatnonzero(self.limits.mask(torch.from_numpy(points)).numpy())

    def _draw_cameras(self, row: int, generator: np.random.Generator) -> list[str]:
        channels = [camera.channel for camera in self._frame(row)[0].cameras]
        count = len(channels) if self.cameras_per_clip is None else min(self.cameras_per_clip, len(channels))
        return [channels[place] for place in generator.permutation(len(channels))[:count]]

    def _sparse(self, row: int, offset: int, channels: list[str], generator: np.random.Generator) -> _Cloud:
        frame, pairs = self._frame(row)
        spot = np.zeros(2, dtype=np.float32)
        if self.viewpoint_m:
            chosen, spot = self._seen_from_elsewhere(frame.points, generator)
        else:
            chosen = _subset(len(frame.points), self.max_points, generator)
        pairs = pairs.of(chosen, _places(frame, channels))
        age = np.zeros(len(chosen), dtype=np.float32)
        return _Cloud(frame.points[chosen], pairs, frame, offset, dense=False, age=age, spot=spot)

    def _seen_from_elsewhere(
        self, points: NDArray[np.float32], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of the points that stay, and the spot (x, y) from which the scan is seen."""
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        spot = draw_spot(self.viewpoint_m, draw)
        count = draw_count(len(points), self.max_points, generator.random)
        return thin_as_from(torch.from_numpy(points), spot, count, draw).numpy(), spot.numpy()

    def _dense(self, row: int, channels: list[str], generator: np.random.Generator) -> _Cloud:
        """The frame's cloud and the sweeps around it, in its LiDAR frame, seen by its cameras."""
        frame = self._frame(row)[0]
        kept = _subset(len(frame.points), self.max_points, generator)
        sweeps = []
        for other in self.index.sweeps(row, self.sweeps, after=self.sweeps_after):
            sweep = self.index.frame(other, cameras=(), labels=False, raw_intensity=self.raw_intensity)
            points = sweep.points[self._in_limits(sweep.points)]
            sweeps.append(replace(sweep, points=points[_subset(len(points), self.sweep_points, generator)]))
        whole = frame
        if self.merging["drop_moving"]:  # points left out or thinned away still close a view
            whole = self.index.frame(row, cameras=(), labels=False, raw_intensity=self.raw_intensity)
        around = merge_sweeps(Clip({0: whole}, tuple(sweeps)), **self.merging)[len(whole.points) :]
        points = np.concatenate([frame.points[kept], around[:, :-1]])
        age = np.concatenate([np.zeros(len(kept), dtype=np.float32), around[:, -1]])
        cameras = [frame.cameras[place] for place in _places(frame, channels)]
        pairs, origin = pair(frame, points, cameras, **self.hiding), np.zeros(2, dtype=np.float32)
        return _Cloud(points, pairs, frame, 0, dense=True, age=age, spot=origin)

    def _views(self, clouds: list[_Cloud], channels: list[str], generator: np.random.Generator) -> list[View]:
        """One view an image, by time and camera; the dense cloud looks at the centre's."""
        views = []
        for cloud in clouds:
            if not cloud.dense:
                for place, camera in enumerate(
                    cloud.frame.cameras[at] for at in _places(cloud.frame, channels)
                ):
                    pixels = cloud.pairs.pixel[cloud.pairs.camera == place]
                    views.append(self.views.view(camera, cloud.offset, place, pixels, generator))
        return views

    def _pairs(self, cloud: _Cloud, views: list[View]) -> dict[str, NDArray]:
        """Pairs of one cloud in pixels of the views, with their regions; those outside a crop are gone."""
        parts: dict[str, list[NDArray]] = {"point": [], "image": [], "pixel": [], "region": []}
        for row, view in enumerate(views):
            if view.offset != cloud.offset:
                continue
            mine, pixel = view.pairs(cloud.pairs, self.views.size)
            region = (
                world_cells(cloud.frame, cloud.points[cloud.pairs.point[mine]], self.cell_m)
                if view.ids is None
                else ids_under(view.ids, pixel)
            )
            if self.one_depth_per_superpixel and view.ids is not None:
                near = nearest_of_region(region, cloud.pairs.depth[mine])
                mine, pixel, region = mine[near], pixel[near], region[near]
            parts["point"].append(cloud.pairs.point[mine])
            parts["image"].append(np.full(len(mine), row))
            parts["pixel"].append(pixel)
            parts["region"].append(region)
        if not parts["point"]:  # none of the clip's cameras has an image at this time
            nothing = np.zeros(0, dtype=np.int64)
            return {
                "point": nothing,
                "image": nothing,
                "pixel": np.zeros((0, 2), np.float32),
                "region": nothing,
            }
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _assemble(self, clouds: list[_Cloud], views: list[View], generator: np.random.Generator) -> Batch:
        """Pairs, then augmentation: every cloud is turned, mirrored and scaled by a draw of its own."""
        points, point_pairs, parts, first = [], [], [], 0
        center_seed = int(generator.integers(2**62))
        for cloud in clouds:
            pairs = self._pairs(cloud, views)
            if self.shuffle_pairs:
                pairs["point"] = generator.permutation(pairs["point"])
            own_seed = int(generator.integers(2**62))
            shared = self.share_dense and cloud.offset == 0
            draw = torch.Generator().manual_seed(center_seed if shared else own_seed)
            moved = torch.from_numpy(cloud.points)
            if cloud.spot.any():
                moved = moved - torch.from_numpy(np.pad(cloud.spot, (0, cloud.points.shape[1] - 2)))
            points.append(augment(moved, draw, **self.augmentation)[0])
            point_pairs.append(torch.from_numpy(pairs.pop("point") + first))
            parts.append(pairs)
            first += len(cloud.points)
        joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        lengths = torch.tensor([len(cloud.points) for cloud in clouds])
        maps = [view.ids for view in views if view.ids is not None]
        return Batch(
            points=torch.cat(points),
            cloud=torch.repeat_interleave(torch.arange(len(clouds)), lengths),
            cloud_clip=torch.zeros(len(clouds), dtype=torch.int64),
            cloud_offset=torch.tensor([cloud.offset for cloud in clouds]),
            cloud_dense=torch.tensor([cloud.dense for cloud in clouds]),
            age=torch.from_numpy(np.concatenate([cloud.age for cloud in clouds])),
            images=torch.stack([view.image for view in views]),
            image_clip=torch.zeros(len(views), dtype=torch.int64),
            image_offset=torch.tensor([view.offset for view in views]),
            image_camera=torch.tensor([view.place for view in views]),
            superpixels=torch.from_numpy(np.stack(maps).astype(np.int32)) if maps else None,
            pair_point=torch.cat(point_pairs),
            pair_image=joined["image"],
            pair_pixel=joined["pixel"],
            # world cells are named by 63-bit keys; within the sample their order is name enough
            pair_region=torch.unique(joined["region"], return_inverse=True)[1]
            if self.region == "world_cell"
            else joined["region"],
            view_size=self.views.size,
            region_scope=self.region_scope,
            tokens=tuple(cloud.frame.token for cloud in clouds),
        )


def _subset(count: int, limit: Count, generator: np.random.Generator) -> NDArray[np.int64]:
    """Ascending random rows, as many of ``count`` as ``limit`` says."""
    kept = draw_count(count, limit, generator.random)
    if kept == count:
        return np.arange(count)
    return np.sort(generator.choice(count, kept, replace=False))


def _places(frame: Frame, channels: Sequence[str]) -> list[int]:
    """Where the named cameras stand in the frame; a camera that misses an image at this time is left out."""
    found = {camera.channel: place for place, camera in enumerate(frame.cameras)}
    return [found[channel] for channel in channels if channel in found]
