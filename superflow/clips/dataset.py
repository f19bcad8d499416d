"""From a prepared log to pretraining samples: clouds of several times, their images, and who sees what."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..camera.cache import FeatureCache
from ..camera.identity import ImageIdentity, of_other_images
from ..camera.superpixels import lacking_maps, noted_image, read_record
from ..datasets.frame import Frame
from ..datasets.index import LogIndex
from ..errors import InputError
from ..lidar.augment import augment
from ..lidar.limits import Limits
from ..protocol import data_record
from .batch import Batch, row_type
from .clouds import ClipCloud, ClipClouds
from .pairing import id_space, ids_under, nearest_of_region, world_cells
from .single_scans import knows_poses, single_scans
from .sources import Source, named, source_of
from .times import ClipTimes
from .views import TeacherView, TeacherViews

_log = logging.getLogger(__name__)

REGIONS = ("superpixel", "world_cell")
_LOOKED_AT = 32  # frames whose images are held against those that features and superpixels were made of


class PretrainDataset:
    """Samples of one clip each; item i is the i-th chosen key frame with its neighbours.

    ``dataset[(item, seed)]`` draws everything random from ``seed`` alone, so a resumed run sees the same data.

    Args:
        index: a prepared log (`LogIndex` or its folder).
        frames: which key frames are centres, see `LogIndex.rows`; neighbours come only from these frames too.
        times: the times of a clip: arguments of `times.ClipTimes`.
        clouds: how clouds are read, paired and thinned: arguments of `clouds.ClipClouds`.
        views: how the teacher sees an image: arguments of `views.TeacherViews`.
        cameras_per_clip: cameras drawn a clip, the same for all its times (published: 3); None for all.
        superpixels: folder of superpixel maps; needed for region ``superpixel``.
        region: what a region is: a ``superpixel``, or a ``world_cell`` of ``cell_m`` metres.
        one_depth_per_superpixel: leave out points clearly behind the nearest one of their superpixel, see
            `pairing.nearest_of_region`; only for superpixels that are things, not classes.
        limits, raw_intensity: region of the points, as `Limits` or its fields; intensity as in `LogIndex.frame`.
        augmentation: options of `lidar.augment.augment`; ``share_dense`` gives the dense cloud the sparse one's draw.
        shuffle_pairs: permute the points of the pairs within each cloud: the null experiment.
        images: False: clips are clouds alone, with neither images nor pairs, for a log without cameras beside others in
            a `mixture.MixtureDataset`.
    """

    draws_by_seed = True  # and so may be drawn from in a thread

    def __init__(
        self,
        index: LogIndex | str | Path,
        *,
        frames: str | Sequence[str] | None = None,
        times: Mapping[str, Any] | None = None,
        clouds: Mapping[str, Any] | None = None,
        views: Mapping[str, Any] | None = None,
        cameras_per_clip: int | None = 3,
        superpixels: str | Path | None = None,
        region: str = "superpixel",
        cell_m: float = 1.0,
        one_depth_per_superpixel: bool = False,
        limits: Limits | dict[str, Any] | None = None,
        raw_intensity: bool = False,
        augmentation: Mapping[str, Any] | None = None,
        share_dense: bool = False,
        shuffle_pairs: bool = False,
        images: bool = True,
    ) -> None:
        self.index = index if isinstance(index, LogIndex) else LogIndex.open(index)
        self.rows = self.index.rows(frames)
        if not len(self.rows):
            raise ValueError(f"frames {frames!r} select no key frame of {self.index.folder}")
        self.images = images
        if images:
            self.rows = self._with_images(self.rows)
        if region not in REGIONS:
            raise ValueError(f"region {region!r} is unknown; use one of {', '.join(REGIONS)}")
        if region == "world_cell" and (superpixels is not None or one_depth_per_superpixel):
            _log.warning(
                'region="world_cell" reads no superpixels, so %s does nothing; set region="superpixel" to read them',
                "one_depth_per_superpixel" if superpixels is None else f"superpixels={str(superpixels)!r}",
            )
        times, clouds, self.left_out = single_scans(self.index, times or {}, clouds or {}, region)
        self.times = ClipTimes(self.index, self.rows, **times)
        self.limits, self.raw_intensity = Limits.from_record(limits), raw_intensity
        self.clouds = ClipClouds(self.index, limits=self.limits, raw_intensity=raw_intensity, **clouds)
        if self.clouds.labels and not self._labelled_frames():
            raise InputError(
                f"{self.index.root}: none of the {len(self.rows)} chosen frames has labels; set "
                "train_dataloader.dataset.clouds.labels=False and leave out the objective that learns from them"
            )
        self.cameras_per_clip = cameras_per_clip if images else 0
        self.region, self.cell_m = region, cell_m
        self.ids_by = ""  # what gave ids their meaning that is the same in all images
        if not images:
            self.id_scope = "batch"  # of no regions
        elif region == "world_cell":
            self.worlds = knows_poses(self.index)  # else each scan is a world of its own
            if self.worlds:
                self.index.require("a region of the world", 'set region="superpixel"', poses=True)
            self.id_scope = "clip"  # the same key in another scene is another place
        elif superpixels is None:
            raise ValueError('region "superpixel" needs superpixels=FOLDER of the prepared maps')
        else:
            record = read_record(Path(superpixels))
            self.id_scope = "batch" if record["shared_ids"] else "image"
            if record["shared_ids"]:
                self.ids_by = json.dumps([record.get("provider"), record.get("made_by")], sort_keys=True)
        maps = Path(superpixels) if region == "superpixel" and superpixels is not None else None
        self.views = TeacherViews(superpixels=maps, **(views or {}))
        if images and self.views.features is not None:
            self._check_features(self.views.features, frames)
        if images and maps is not None:
            self._check_maps(maps, frames)
        self.one_depth_per_superpixel = one_depth_per_superpixel
        self.augmentation, self.share_dense = dict(augmentation or {}), share_dense
        self.shuffle_pairs = shuffle_pairs

    def _with_images(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``rows`` that a camera saw; a dropped picture leaves out its frame, not the run."""
        kept = self.index.camera_count[rows] > 0
        if not kept.any():
            raise InputError(
                f"{self.index.root}: none of the {len(rows)} chosen frames has a camera image, and pretraining needs "
                f"some; {self._other_frames()}, or set images=False for this log beside others in a mixture"
            )
        if not kept.all():
            _log.info(
                "%d of %d chosen frames have no camera image and are left out", (~kept).sum(), len(rows)
            )
        return rows[kept]

    def _other_frames(self) -> str:
        """What may help; other frames do only where the log has an image anywhere."""
        has_images = self.index.camera_count.any()
        return (
            "choose other frames in train_dataloader.dataset.frames"
            if has_images
            else "take a log with cameras"
        )

    def _check_features(self, cache: FeatureCache, frames: str | Sequence[str] | None) -> None:
        """Said before the first step: a cache holds the images that it was made of, which may be others."""
        tokens = self.index.camera_tokens(self.rows)
        if lacking := cache.lacking(tokens):
            terms = [frames] if isinstance(frames, str) else list(frames or ())
            raise InputError(
                f"{cache.folder}: {len(lacking)} of the {len(tokens)} images of the chosen frames have no features "
                f"(first: {lacking[0]}); make them, what is there stays, with "
                f"`{cache.command(self.index.folder, terms)}`"
            )
        self._check_images(cache.folder, cache.identities().get, "superflow prepare features")

    def _check_maps(self, folder: Path, frames: str | Sequence[str] | None) -> None:
        """Said before the first step, like `_check_features`: else it would be in the midst of a run."""
        tokens = self.index.camera_tokens(self.rows)
        if lacking := lacking_maps(folder, tokens):
            terms = [frames] if isinstance(frames, str) else list(frames or ())
            provider = str(read_record(folder).get("provider"))
            words = ["--index", str(self.index.folder), "--out", str(folder), "--provider", provider]
            words += ["--frames", *terms] if terms else []
            raise InputError(
                f"{folder}: {len(lacking)} of the {len(tokens)} images of the chosen frames have no regions (first: "
                f"{lacking[0]}); make them, what is there stays, with `superflow prepare superpixels "
                f"{shlex.join(words)}` and the options that its superpixels.json names"
            )
        self._check_images(folder, partial(noted_image, folder), "superflow prepare superpixels")

    def _check_images(self, folder: Path, noted: Callable[[str], ImageIdentity | None], command: str) -> None:
        """What was made of another log, or before its images were replaced, may have the same tokens.

        Some frames are looked at: all of a large log on a network's disk would take minutes.
        """
        spaced = np.unique(np.linspace(0, len(self.rows) - 1, _LOOKED_AT).round().astype(np.int64))
        if others := of_other_images(self.index.cameras(self.rows[spaced]), noted):
            raise InputError(
                f"{folder}: what it holds of {others[0]} was made of another image than that of {self.index.root} "
                f"({len(others)} such images in {len(spaced)} frames that were looked at); run `{command}` again with "
                "the index of this log, which makes those anew, or give the folder that belongs to it"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the train ids of the labels that are read; none where ``clouds.labels`` is False."""
        return tuple(self.index.card.classes) if self.clouds.labels else ()

    @property
    def features(self) -> FeatureCache | None:
        """The cached teacher features that are read; None where images are."""
        return self.views.features

    def record(self) -> dict[str, Any]:
        """What the run's record says of its data."""
        record = data_record(self.index, self.rows, limits=self.limits, raw_intensity=self.raw_intensity)
        if self.left_out:
            record["left_out"] = self.left_out
        if self.clouds.labels:
            record["labels"] = {"frames": self._labelled_frames()}
        return record

    def _labelled_frames(self) -> int:
        return sum(self.index.has_labels(int(row)) for row in self.rows)

    def __getitem__(self, key: tuple[int, int] | int) -> Batch:
        item, seed = key if isinstance(key, tuple) else (key, 0)
        generator = np.random.default_rng([seed, item])
        rows = self.times.rows(int(self.rows[item]))
        channels = self._draw_cameras(rows[0], generator)
        clouds = self.clouds.draw(rows, channels, generator)
        views = self._views(clouds, channels, generator)
        if not views and self.images:
            frame = clouds[0].frame
            raise InputError(
                f"frame {frame.token} of {frame.scene} has no camera image, and pretraining needs some; "
                "choose other frames in train_dataloader.dataset.frames"
            )
        return self._assemble(clouds, views, self._sources(clouds, rows), generator)

    def _draw_cameras(self, row: int, generator: np.random.Generator) -> list[str]:
        channels = self.clouds.channels(row)
        count = len(channels) if self.cameras_per_clip is None else min(self.cameras_per_clip, len(channels))
        return [channels[place] for place in generator.permutation(len(channels))[:count]]

    def _sources(self, clouds: list[ClipCloud], rows: Mapping[int, int]) -> list[tuple[Source, ...]]:
        """Of each cloud, the scans that its points are from; ``rows`` by offset."""
        around = self.index.sweeps(rows[0], self.clouds.sweeps, after=self.clouds.sweeps_after)
        return [
            tuple(
                source_of(self.index, row, seen_at=rows[cloud.offset])
                for row in (rows[cloud.offset], *(around if cloud.dense else ()))
            )
            for cloud in clouds
        ]

    def _views(
        self, clouds: list[ClipCloud], channels: list[str], generator: np.random.Generator
    ) -> list[TeacherView]:
        """One view an image, by time and camera; the dense cloud looks at the centre's."""
        views = []
        for cloud in clouds:
            if not cloud.dense:
                for place, camera in enumerate(cloud.cameras(channels)):
                    view = self.views.view(camera, cloud.offset, place, cloud.pairs, generator)
                    views.append(replace(view, number=channels.index(camera.channel)))
        return views

    def _pairs(self, cloud: ClipCloud, views: list[TeacherView]) -> dict[str, NDArray]:
        """Pairs of one cloud in pixels of the views, with their regions; those outside a crop are gone."""
        parts: dict[str, list[NDArray]] = {"point": [], "image": [], "pixel": [], "region": []}
        for row, view in enumerate(views):
            if view.offset != cloud.offset:
                continue
            mine, pixel = view.pairs(cloud.pairs, self.views.size)
            if view.ids is not None:
                region = ids_under(view.ids, pixel)
                if self.one_depth_per_superpixel:
                    near = nearest_of_region(region, cloud.pairs.depth[mine])
                    mine, pixel, region = mine[near], pixel[near], region[near]
                parts["region"].append(region)
            parts["point"].append(cloud.pairs.point[mine])
            parts["image"].append(np.full(len(mine), row, dtype=np.int32))
            parts["pixel"].append(pixel)
        if not parts["point"]:  # none of the clip's cameras has an image at this time
            return {
                "point": np.zeros(0, np.int64),
                "image": np.zeros(0, np.int32),
                "pixel": np.zeros((0, 2), np.float32),
                "region": np.zeros(0, np.int64),
            }
        pairs = {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}
        if self.region == "world_cell":  # of all views at once
            seen = np.take(cloud.points, pairs["point"], axis=0)
            pairs["region"] = world_cells(cloud.frame, seen, self.cell_m)
        return pairs

    def _space(self, frame: Frame, view: TeacherView) -> int:
        """What the region ids of a view are counted in, see `Batch.image_space`."""
        if self.region == "world_cell":
            world = frame.scene if self.worlds else f"{frame.scene} {frame.token}"
            return id_space(world, f"{float(self.cell_m)} m")
        return 0 if self.id_scope == "batch" else id_space(view.token)

    def _augmented(self, clouds: list[ClipCloud], seeds: list[int]) -> list[Tensor]:
        """The points of each cloud under the draw of its seed; those of one seed together, as one sensor's."""
        points = [torch.from_numpy(cloud.points) for cloud in clouds]
        for place, cloud in enumerate(clouds):
            if cloud.spot.any():
                columns = cloud.points.shape[1]
                points[place] = points[place] - torch.from_numpy(np.pad(cloud.spot, (0, columns - 2)))
        for seed in dict.fromkeys(seeds):
            places = [place for place, own in enumerate(seeds) if own == seed]
            alike = [points[place] for place in places]
            draw = torch.Generator().manual_seed(seed)
            moved = augment(alike[0] if len(alike) == 1 else torch.cat(alike), draw, **self.augmentation)[0]
            for place, own_points in zip(places, moved.split([len(part) for part in alike])):
                points[place] = own_points
        return points

    def _assemble(
        self,
        clouds: list[ClipCloud],
        views: list[TeacherView],
        sources: list[tuple[Source, ...]],
        generator: np.random.Generator,
    ) -> Batch:
        """Pairs, then augmentation: every cloud is turned, mirrored and scaled by a draw of its own."""
        seeds, point_pairs, parts, first = [], [], [], 0
        center_seed = int(generator.integers(2**62))
        for cloud, parts_of in zip(clouds, sources, strict=True):
            with named(cloud.points, *parts_of, age=cloud.age):
                pairs = self._pairs(cloud, views)
            if self.shuffle_pairs:
                pairs["point"] = generator.permutation(pairs["point"])
            own_seed = int(generator.integers(2**62))
            seeds.append(center_seed if self.share_dense and cloud.offset == 0 else own_seed)
            point_pairs.append(torch.from_numpy((pairs.pop("point") + first).astype(np.int32)))
            parts.append(pairs)
            first += len(cloud.points)
        joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        lengths = [len(cloud.points) for cloud in clouds]
        cloud_rows = torch.arange(len(clouds), dtype=row_type(len(clouds))).numpy()
        maps = [view.ids for view in views if view.ids is not None]
        seen: dict[str, Tensor | None] = {}
        if self.images:
            seen = {
                "images": torch.stack([view.image for view in views]),
                "image_clip": torch.zeros(len(views), dtype=torch.int64),
                "image_offset": torch.tensor([view.offset for view in views]),
                "image_camera": torch.tensor([view.number for view in views]),
                "image_space": torch.tensor([self._space(clouds[0].frame, view) for view in views]),
                "superpixels": torch.from_numpy(np.stack(maps).view(np.int16)) if maps else None,
                "pair_point": torch.cat(point_pairs),
                "pair_image": joined["image"].to(row_type(len(views))),
                "pair_pixel": joined["pixel"],
                "pair_region": joined["region"],
            }
        return Batch(
            points=torch.cat(self._augmented(clouds, seeds)),
            cloud=torch.from_numpy(np.repeat(cloud_rows, lengths)),
            cloud_clip=torch.zeros(len(clouds), dtype=torch.int64),
            cloud_offset=torch.tensor([cloud.offset for cloud in clouds]),
            cloud_dense=torch.tensor([cloud.dense for cloud in clouds]),
            age=torch.from_numpy(np.concatenate([cloud.age for cloud in clouds])),
            **seen,
            labels=torch.from_numpy(np.concatenate([cloud.labels for cloud in clouds]))
            if self.clouds.labels
            else None,
            view_size=self.views.size,
            id_scope=self.id_scope,
            tokens=tuple(cloud.frame.token for cloud in clouds),
            sources=tuple(sources),
        )
