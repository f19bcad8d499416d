"""Temporal voting: the scans around a scan have a say in its classes.

Points are brought into the world by calibrated poses and fall into voxels of one grid, in which each scan is summed
once, however many it votes for. The mean probability of a voxel's foreign points, weighted by age and confidence, is
mixed with that of each point of scan t. Only predictions vote for evaluation frames: a scan that carries labels is
refused unless pseudo-labels are being made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..clips.sources import Source, named
from ..errors import InputError, OutOfReachError
from ..lidar.voxelize import with_digits
from .vote_voxels import ScanVoxels, VoxelSums, add_means, divide_rows

Confidence = Literal["one", "max", "entropy"]
_ROUNDING = 1e-3  # of probabilities that were stored in half precision


@dataclass(frozen=True, slots=True)
class VotingOptions:
    """Settings of the vote.

    offsets: key frames that vote, relative to t; those beyond the border of the scene or a hole in it are absent.
    sweeps: offsets count scans, the sweeps between key frames included.
    voxel_m: edge of a voxel; the grid lies along the axes of the world.
    decay: the weight of a vote falls by this factor for every frame of distance, of key frames or of scans.
    alpha: share of the point's own probabilities in the mixture.
    confidence: weight of a voting point: "one", its "max" probability, or 1 - normalised "entropy".
    min_votes: foreign points that a voxel needs, else its points keep their own.
    thing_classes: classes that can move. A vote is heeded only where point and vote agree that there is a thing, or
        none: what drove away must not colour the road behind it. A point without a prediction heeds every vote.
        Empty switches this guard off.
    tracks: lift the guard for points in boxes that moved less than ``voxel_m`` from t to the frames that vote; needs
        ``thing_classes`` and a log with boxes. A log's boxes are annotation, where a vehicle has those of a tracker: a
        figure that was made with them has to say so.
    same_frame: the control, smoothing within voxels: only the scan's own points vote.
    """

    offsets: tuple[int, ...] = (-2, -1, 1, 2)
    sweeps: bool = False
    voxel_m: float = 0.2
    decay: float = 0.8
    alpha: float = 0.5
    confidence: Confidence = "one"
    min_votes: int = 2
    thing_classes: tuple[int, ...] = ()
    tracks: bool = False
    same_frame: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(offset, Integral) for offset in self.offsets):
            raise ValueError(
                f"offsets {self.offsets} must be whole numbers of frames; no scan lies between two"
            )
        if 0 in self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ValueError(f"offsets {self.offsets} must be distinct frames other than 0; see same_frame")
        if not (0 < self.decay <= 1 and 0 <= self.alpha <= 1 and self.voxel_m > 0 and self.min_votes >= 1):
            raise ValueError(
                f"decay {self.decay} must lie in (0, 1], alpha {self.alpha} in [0, 1], voxel_m {self.voxel_m} above 0, "
                f"min_votes {self.min_votes} at 1 or above"
            )
        if self.confidence not in ("one", "max", "entropy"):
            raise ValueError(f'confidence is {self.confidence!r}; choose "one", "max" or "entropy"')
        if self.tracks and self.sweeps:
            raise ValueError("tracks and sweeps are both set, but only key frames have boxes; choose one")
        if self.tracks and not self.thing_classes:
            raise ValueError(
                "tracks is set without thing_classes; it lifts their guard, so name the classes that move"
            )

    @classmethod
    def window(cls, frames: int = 2, *, causal: bool = False, **settings: object) -> VotingOptions:
        """Options for t - frames .. t + frames, or, as a vehicle can do while driving, t - frames .. t."""
        last = 0 if causal else frames
        offsets = tuple(offset for offset in range(-frames, last + 1) if offset)
        return cls(offsets=offsets, **settings)  # type: ignore[arg-type]

    def control(self) -> VotingOptions:
        """The same settings with the scan's own points as voters."""
        return replace(self, same_frame=True)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one scan brings to a vote. Its voxels and their sums are found once for each size and rule, and kept.

    xyz: (N, 3) float32 [m, lidar frame]; probabilities: (N, C) float32; lidar_to_world: (4, 4) at its time;
    from_labels: the probabilities are annotations (one-hot), not predictions. source: the scan, for errors.

    Raises:
        ValueError: shapes or types that do not fit, or numbers that are no probabilities.
    """

    xyz: Tensor
    probabilities: Tensor
    lidar_to_world: NDArray[np.float64]
    from_labels: bool = False
    source: Source | None = None
    _voxels: dict[float, ScanVoxels] = field(default_factory=dict, init=False, repr=False)
    _sums: dict[tuple[float, Confidence], VoxelSums] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.xyz) != len(self.probabilities):
            raise ValueError(f"{len(self.probabilities)} rows of probabilities for {len(self.xyz)} points")
        shapes = tuple(self.xyz.shape), tuple(self.probabilities.shape)
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0][
            1
        ] < 3:  # compiled code would read beyond them
            raise ValueError(f"xyz has shape {shapes[0]}, probabilities {shapes[1]}; give (N, 3) and (N, C)")
        if self.probabilities.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"probabilities are {self.probabilities.dtype}; give them as torch.float32")
        if self.probabilities.numel():
            low, high = (float(end) for end in self.probabilities.aminmax())
            if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:  # not so where one is NaN
                raise ValueError(
                    f"probabilities run from {low:g} to {high:g}; give those of a softmax, in [0, 1]"
                )

    def voxels(self, size_m: float) -> ScanVoxels:
        """The voxels of the world that its points lie in."""
        if size_m not in self._voxels:
            with named(self.xyz, *self._sources):
                xyz = _array(with_digits(self.xyz))
                self._voxels[size_m] = ScanVoxels.of(xyz, self.lidar_to_world, size_m)
        return self._voxels[size_m]

    def sums(self, size_m: float, rule: Confidence) -> VoxelSums:
        """What its points say in each of its ``voxels``, weighted by `confidence_weights`."""
        if (size_m, rule) not in self._sums:
            weights = _array(confidence_weights(self.probabilities, rule))
            self._sums[size_m, rule] = VoxelSums.of(self.voxels(size_m), _array(self.probabilities), weights)
        return self._sums[size_m, rule]

    @property
    def _sources(self) -> list[Source]:
        return [] if self.source is None else [self.source]


@dataclass(frozen=True, slots=True)
class Voted:
    """Outcome for the N points of a scan.

    probabilities: (N, C) float32, rows of points that nothing voted on are as they were. votes: (N,) int64 voting
    points in the point's voxel. heeded: (N,) bool, the vote entered the point's row.
    """

    probabilities: Tensor
    votes: Tensor
    heeded: Tensor


def vote(
    own: Ballot,
    others: dict[int, Ballot],
    options: VotingOptions,
    *,
    still: Tensor | None = None,
    labels_may_vote: bool = False,
    label_weight: float = 1.0,
) -> Voted:
    """Probabilities of scan t after its neighbours have voted.

    Args:
        own: scan t. others: offset in frames -> scan; offsets that do not exist are left out. Ignored by the control.
        still: (N,) bool, points known to stand still, as from ``standing_points``; for ``options.tracks``.
        labels_may_vote: accept annotated scans, for pseudo-labels of training frames only.
        label_weight: factor on the votes of annotated scans, at least 1.

    Raises:
        ValueError: an annotated scan among the voters although ``labels_may_vote`` is not set, offset 0, or ``still``
            is there without ``options.tracks``, absent with it, or of another length than the scan; or scans have
            other numbers of classes, or none of the ``thing_classes``.
    """
    _check_still(still, len(own.xyz), options)
    if any(not 0 <= c < own.probabilities.shape[1] for c in options.thing_classes):
        raise ValueError(
            f"thing_classes {options.thing_classes} are not of 0..{own.probabilities.shape[1] - 1}"
        )
    if not label_weight >= 1:  # not for NaN
        raise ValueError(
            f"label_weight is {label_weight}; an annotation weighs at least as much as a prediction"
        )
    voters = {0: own} if options.same_frame else others
    if not options.same_frame and 0 in voters:
        raise ValueError("offset 0 is the scan itself; it votes only in the same_frame control")
    labelled = sorted(offset for offset, ballot in voters.items() if ballot.from_labels)
    if labelled and not labels_may_vote:
        raise ValueError(
            f"the scan at offset {labelled[0]} carries labels; labelled frames may not vote for frames that are "
            "evaluated, since the labels would travel through world coordinates"
        )
    voxels = own.voxels(options.voxel_m)
    total = VoxelSums.zero(len(voxels.keys), own.probabilities.shape[1])
    for offset, ballot in voters.items():
        # compiled code would write beyond its sums
        if ballot.probabilities.shape[1] != own.probabilities.shape[1]:
            raise ValueError(
                f"the scan at offset {offset} has {ballot.probabilities.shape[1]} classes, the one that it votes for "
                f"{own.probabilities.shape[1]}"
            )
        factor = options.decay ** abs(offset) * (label_weight if ballot.from_labels else 1.0)
        theirs = ballot.voxels(options.voxel_m)
        _check_reach(ballot, theirs, voxels)
        total.add(voxels.keys, ballot.sums(options.voxel_m, options.confidence), theirs.keys, factor)
    return _mix(own.probabilities, total, voxels.voxel_of, options, still)


def confidence_weights(probabilities: Tensor, rule: Confidence) -> Tensor:
    """(N,) weight of each voting point from its probabilities (N, C); zero rows (no prediction) weigh nothing."""
    if rule == "max":
        return probabilities.amax(dim=1)
    if rule == "entropy":
        entropy = torch.special.entr(probabilities).sum(dim=1)
        certain = 1 - entropy / np.log(max(probabilities.shape[1], 2))
        return torch.where(probabilities.sum(dim=1) > 0, certain.clamp(0, 1), 0.0)
    return (probabilities.sum(dim=1) > 0).to(probabilities.dtype)


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.numpy(force=True))


def _mix(
    own: Tensor,
    total: VoxelSums,
    voxel_of: NDArray[np.int32],
    options: VotingOptions,
    still: Tensor | None,
) -> Voted:
    """Own rows (N, C) mixed with the weighted mean of their voxel, which takes the place of its ``total``.

    The mean, not the sum: else ``alpha`` would mean something else in every voxel.
    """
    tiny = np.finfo(np.float32).tiny
    heard = (total.votes >= options.min_votes) & (total.weight > 0)
    mean, heeded = total.probabilities, heard[voxel_of]
    divide_rows(mean, np.maximum(total.weight, tiny), heard)  # no point heeds others
    if options.thing_classes and len(own):
        things = np.zeros(own.shape[1], dtype=np.bool_)
        things[list(options.thing_classes)] = True
        of_voxel = torch.from_numpy(mean).argmax(dim=1).numpy()
        agreed = things[own.argmax(dim=1).numpy(force=True)] == things[of_voxel][voxel_of]
        # a point without a prediction has no class that could disagree
        agreed |= (own == 0).all(dim=1).numpy(force=True)
        heeded &= agreed if still is None else agreed | still.numpy(force=True)
    # what is the same for all points of a voxel once a voxel: rows of all points are large
    mean *= np.float32(1 - options.alpha)
    mixed = np.empty(own.shape, dtype=np.float32)
    add_means(_array(own), np.float32(options.alpha), mean, voxel_of, heeded, mixed)
    rows = torch.from_numpy(mixed)
    sums = rows.sum(dim=1).clamp_(min=float(tiny)).numpy()
    divide_rows(mixed, sums, heeded)
    device = own.device
    return Voted(
        rows.to(device),
        torch.from_numpy(total.votes[voxel_of]).to(device),
        torch.from_numpy(heeded).to(device),
    )


def _check_reach(ballot: Ballot, theirs: ScanVoxels, voxels: ScanVoxels) -> None:
    try:
        voxels.check_reach(theirs)
    except OutOfReachError as error:
        if ballot.source is None:
            raise
        raise InputError(
            f"{ballot.source.file}: scan {ballot.source.token} and the one that it votes for have {error}"
        ) from error


def _check_still(still: Tensor | None, count: int, options: VotingOptions) -> None:
    if options.tracks != (still is not None):
        raise ValueError(
            f"tracks is {options.tracks}, so still must be {'given' if options.tracks else 'None'}"
        )
    if still is not None and still.shape != (count,):
        raise ValueError(f"still has shape {tuple(still.shape)} for {count} points")


def neighbour_rows(index: Any, row: int, offsets: Sequence[int], *, sweeps: bool = False) -> dict[int, int]:
    """offset -> row of the key frames (``sweeps``: of the scans) around ``row`` in its scene; absent ones are left out.

    So are those behind a hole in the recording: what was seen minutes ago need not be there, and poses drift meanwhile.
    """
    if sweeps:
        scans = {-i: other for i, other in enumerate(index.sweeps(row, max(0, -min(offsets, default=0))), 1)}
        after = index.sweeps(row, 0, after=max(0, max(offsets, default=0)))
        scans |= dict(enumerate(after, 1))
        return {offset: scans[offset] for offset in offsets if offset in scans}
    found = {offset: index.neighbour(row, offset) for offset in offsets}
    return {
        offset: other
        for offset, other in found.items()
        if other is not None and index.is_unbroken(row, other)
    }


def is_beside(index: Any, row: int, rows: Collection[int]) -> bool:
    """Whether scan ``row`` is one of the key frames ``rows``, or a sweep next to one of them."""
    around = [row] if index.is_key[row] else [index.neighbour(row, -1), index.neighbour(row, 1)]
    return any(other in rows for other in around)
