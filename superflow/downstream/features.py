"""Frozen features for probes: from an encoder, or straight from coordinates as the baseline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..clips.sources import Source, named, source_of
from ..datasets.card import RAW_FULL
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..geometry import transform_points
from ..lidar.augment import augment
from ..lidar.encoder import LidarEncoder
from ..lidar.evaluation import evaluating
from ..lidar.limits import Limits
from ..progress import LogLines, track

_log = logging.getLogger(__name__)


class FeatureSource(Protocol):
    """Anything that turns one cloud into features of its points."""

    channels: int

    def __call__(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """(N, C) float32 features of ``points`` (N, 4+) of one scan, or those of ``rows`` (R,) only: (R, C)."""


class EncoderFeatures:
    """Features of an encoder in evaluation mode, without gradients.

    Intensity is expected in [0, 1], as `read_scan` gives it; an encoder that was trained on 0..255 gets that.

    Args:
        encoder: its mode is set for the duration of a call only.
        chunk_points: split a scan at random into clouds of at most this many points that are encoded apart, for an
            encoder that was trained on thinned scans; None encodes the scan whole.
        seed: of the split.
    """

    def __init__(self, encoder: LidarEncoder, *, chunk_points: int | None = None, seed: int = 0) -> None:
        if chunk_points is not None and chunk_points < 1:
            raise ValueError(f"chunk_points is {chunk_points}; give a positive number or None")
        self.encoder = encoder
        self.channels = int(encoder.out_channels)
        self.chunk_points = chunk_points
        self.seed = seed

    @torch.no_grad()
    def __call__(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        points = points.to(next(self.encoder.parameters()).device)
        if len(points) == 0:
            return points.new_zeros(0, self.channels)
        points = as_trained(self.encoder, points)
        order, cloud, num_clouds = self._split(points)
        with evaluating(self.encoder):
            voxels = self.encoder(points[order], cloud, num_clouds)
        inverse = torch.empty_like(voxels.inverse)
        inverse[order] = voxels.inverse  # back to the order of the points
        return voxels.features[inverse if rows is None else inverse[rows.to(inverse.device)]].float()

    def _split(self, points: Tensor) -> tuple[Tensor, Tensor, int]:
        """Order of the points by cloud, (N,) ascending cloud of each in that order, number of clouds."""
        count = len(points)
        if self.chunk_points is None or count <= self.chunk_points:
            order = torch.arange(count, device=points.device)
            return order, torch.zeros_like(order), 1
        num_clouds = -(-count // self.chunk_points)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed)).to(points.device)
        return order, torch.arange(count, device=points.device) * num_clouds // count, num_clouds


def as_trained(encoder: LidarEncoder, points: Tensor) -> Tensor:
    """``points`` (N, 4+), intensity in [0, 1], with the intensity that the encoder was trained on."""
    if not encoder.raw_intensity:
        return points
    return torch.cat([points[:, :3], RAW_FULL * points[:, 3:4], points[:, 4:]], dim=1)


class RawCoordinates:
    """The baseline without a network: x, y, z, horizontal range, intensity, and the squares of these five.

    A point without an intensity (NaN) has 0, as an encoder sees it.
    """

    channels = 10

    def __call__(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        points = points if rows is None else points[rows]
        distance = torch.linalg.vector_norm(points[:, :2], dim=1, keepdim=True)
        values = torch.cat([points[:, :3], distance, points[:, 3:4].nan_to_num(0.0)], dim=1).float()
        return torch.cat([values, values.square()], dim=1)


@dataclass(frozen=True, slots=True)
class FeatureSample:
    """Features of some labelled points. features: (M, C) float32; labels: (M,) int64; row: (M,) int64 of the index."""

    features: Tensor
    labels: Tensor
    row: Tensor

    def of_rows(self, rows: Sequence[int]) -> FeatureSample:
        """The part that comes from these frames."""
        chosen = torch.isin(self.row, torch.as_tensor(list(rows), dtype=torch.int64))
        return FeatureSample(self.features[chosen], self.labels[chosen], self.row[chosen])


def sample_features(
    source: FeatureSource,
    index: Any,
    rows: Sequence[int],
    *,
    max_points: int = 80_000,
    balance: float = 0.0,
    limits: Limits | None = None,
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> FeatureSample:
    """Features of at most ``max_points`` labelled points, the same number from every frame.

    Args:
        balance: 0 draws points as frequent as they are, 1 draws as if all classes of a frame were equally frequent;
            between them the weight of a point is count^-balance.
        limits: region to draw from, before augmentation.
        augmentation: options of ``lidar.augment.augment``, one draw a frame; None leaves scans as they are. The points
            drawn are the same in both cases.
        seed: the draw of a frame depends on it and on the frame's row alone.

    Raises:
        InputError: no frame has a labelled point, or a scan has points that cannot be voxelised.
    """
    quota = max(1, max_points // max(len(rows), 1))
    parts = []
    for row in track(rows, "features of frames", LogLines(_log, quiet=True)):
        scan = read_scan(index, row)
        points, labels = scan.points, scan.labels
        candidates = labels != IGNORE_LABEL
        if limits is not None:
            candidates &= limits.mask(points)
        chosen = draw_points(
            labels, candidates.nonzero()[:, 0], quota, balance=balance, seed=(seed, int(row))
        )
        if augmentation is not None:
            own = int(np.random.default_rng([seed, int(row)]).integers(2**62))
            points = augment(points, torch.Generator().manual_seed(own), **augmentation)[0]
        if len(chosen):
            with named(points, scan.source):
                features = source(points, chosen).cpu()
            parts.append((features, labels[chosen], torch.full((len(chosen),), int(row))))
    if not parts:
        raise InputError(
            f"none of the {len(rows)} frames has a labelled point within the limits; choose labelled frames"
        )
    features, labels, row_of = (torch.cat(column) for column in zip(*parts))
    return FeatureSample(features, labels, row_of)


def draw_points(
    labels: Tensor, candidates: Tensor, count: int, *, balance: float = 0.0, seed: tuple[int, int] = (0, 0)
) -> Tensor:
    """Up to ``count`` of ``candidates`` (K,), ascending, drawn without replacement; see ``sample_features``."""
    if len(candidates) <= count:
        return candidates
    generator = np.random.default_rng(seed)
    keys = torch.from_numpy(generator.standard_exponential(len(candidates)))
    if balance:
        # the smallest exponential keys, each divided by its weight, are a weighted draw (Efraimidis, Spirakis 2006)
        of_class = labels[candidates]
        keys = keys * torch.bincount(of_class, minlength=256)[of_class].double() ** balance
    return candidates[keys.argsort()[:count]].sort().values


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan as tensors.

    points: (N, 4+) float32; labels: (N,) int64, all ``IGNORE_LABEL`` where the scan has none; pose: (4, 4) LiDAR to
    world, None where the log does not know it; source: its token and file; file_row, file_rows: as in
    `datasets.cloud.Cloud`.
    """

    points: Tensor
    labels: Tensor
    pose: NDArray[np.float64] | None
    source: Source
    file_row: NDArray[np.int64] | None = None
    file_rows: int = 0

    @property
    def lidar_to_world(self) -> NDArray[np.float64]:
        """(4, 4) at the time of the scan.

        Raises:
            InputError: the pose is not known.
        """
        if self.pose is None:
            raise InputError(
                f"{self.source.file}: this scan has no pose, and comparing places over time needs one; "
                "prepare the log with poses"
            )
        return self.pose

    @property
    def world(self) -> NDArray[np.float64]:
        """(N, 3) float64 points in the world frame [m]."""
        return transform_points(self.lidar_to_world, self.points[:, :3].double().numpy())

    def at(self, rows: Tensor) -> Scan:
        """The points of these rows, or where a mask is true."""
        file_row, file_rows = self.file_row, self.file_rows
        if file_row is None:
            file_row, file_rows = np.arange(len(self.points)), len(self.points)
        kept = file_row[rows.numpy()]
        return Scan(self.points[rows], self.labels[rows], self.pose, self.source, kept, file_rows)

    @property
    def ranges_m(self) -> Tensor:
        """(N,) horizontal distance of the points from the sensor."""
        return torch.linalg.vector_norm(self.points[:, :2], dim=1)


def read_scan(index: Any, row: int, *, labels: bool = True) -> Scan:
    """One frame of a ``LogIndex`` without cameras."""
    frame = index.frame(int(row), cameras=(), images=False, labels=labels)
    points = torch.from_numpy(frame.points)
    if frame.labels is None:
        of_points = torch.full((len(points),), IGNORE_LABEL, dtype=torch.int64)
    else:
        of_points = torch.from_numpy(frame.labels.astype(np.int64))
    pose = None if frame.ego_to_world is None else frame.lidar_to_world
    cloud = frame.cloud
    return Scan(points, of_points, pose, source_of(index, row), cloud.file_row, cloud.file_rows)
