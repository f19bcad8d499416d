"""One SuperFlow++ step, forward and backward: the published order of work against ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ...clips.batch import Batch
from ...errors import InputError
from ...lidar.encoder import LidarEncoder
from ...method.pretrainer import Pretrainer
from ..published import OBJECTIVES, published_loss, superflowpp
from .batches import IDS, CachedFeatures, any_teacher, make_batch
from .options import Options, Table
from .turns import Work, in_fresh_process, in_turn

CAMERAS, VIEW = 3, (224, 448)
AGREE = 1e-4  # of the losses
PUBLISHED, OURS, CACHED = "published order of work", "ours, same losses", "ours, same losses, cached features"
KNOBS = (
    "ours, pixels under points and one norm, cached features"  # another loss: configs/pretrain/superflowpp.py
)
ARMS = (PUBLISHED, OURS, CACHED, KNOBS)


def measure(options: Options) -> list[Table]:
    """Time and memory of the arms.

    Raises:
        InputError: the losses of the published order and of ours do not agree, so that no ratio would mean anything.
    """
    arms = _Arms(options)
    worst = arms.largest_difference()
    if worst > AGREE:
        raise InputError(
            f"benchmark-speed step: losses that should be equal differ by {worst:.2g}; tell the project"
        )
    turns = in_turn({name: arms.work(name) for name in ARMS}, rounds=options.rounds, clock=options.clock)
    peaks = {name: in_fresh_process(arm_alone, name, options) for name in ARMS} if options.memory else {}
    rows = []
    for name in ARMS:
        peak = [f"{mb:.0f}" for mb in peaks[name]] if peaks else ["-", "-"]
        rows.append([name, f"{turns.median(name):.2f}", turns.compared(PUBLISHED, name), *peak])
    title = (
        f"SuperFlow++ step, {options.clips} clips of 4 clouds of {options.points} points, {CAMERAS} cameras of "
        f"{VIEW[0]} x {VIEW[1]} at 3 times, student MinkUNet-{options.depth or 'tiny'}, teacher {arms.teacher.name}"
    )
    columns = ("order of work", "s", "times as fast: median, from to", "peak MB", "of it the step's MB")
    notes = [f"With running statistics the losses agree to {worst:.1g}.", turns.conditions()]
    return [Table(title, columns, rows, notes, turns.record() | {"difference": worst, "peak_mb": peaks})]


def arm_alone(name: str, options: Options) -> Work:
    """The step of one arm, for a process of its own."""
    return _Arms(options).work(name)


class _Arms:
    """The same weights and the same batch, in images and in cached features."""

    def __init__(self, options: Options) -> None:
        torch.manual_seed(0)
        size_m = options.grid_m(0.25)
        student = LidarEncoder(
            {"type": "cubic", "size_m": size_m}, {"depth": options.depth or "tiny"}, reduce="first"
        )
        self.teacher = any_teacher()
        images = torch.rand(options.clips * CAMERAS * 3, 3, *VIEW)
        self.seen = make_batch(options, clips=options.clips, cameras=CAMERAS, images=images, view=VIEW)
        cached: Any = CachedFeatures(self.teacher.channels)
        self.model = superflowpp(student, self.teacher)
        self.cached = self._with_same_heads(superflowpp(student, cached))
        self.knobs = self._with_same_heads(superflowpp(student, cached, pixels="hit", normalize="after"))
        self._held: Batch | None = None

    def _with_same_heads(self, other: Pretrainer) -> Pretrainer:
        other.point_head, other.image_head = self.model.point_head, self.model.image_head
        return other

    @property
    def held(self) -> Batch:
        """The batch with cached features; one clip's images at a time see the teacher, as in preparation."""
        if self._held is None:
            parts = [self.teacher(part) for part in self.seen.image_table.values.split(CAMERAS)]
            self._held = replace(self.seen, images=torch.cat(parts))
        return self._held

    def loss(self, name: str) -> dict[str, Any]:
        """Of one arm."""
        losses: dict[str, Callable[[], dict[str, Any]]] = {
            PUBLISHED: lambda: published_loss(self.model, self.seen, num_ids=IDS),
            OURS: lambda: self.model.loss(self.seen),
            CACHED: lambda: self.cached.loss(self.held),
            KNOBS: lambda: self.knobs.loss(self.held),
        }
        return losses[name]()

    def work(self, name: str) -> Work:
        """Forward and backward in training."""
        if name in (CACHED, KNOBS):
            assert self.held is not None  # made now, outside of what is timed

        def step() -> None:
            self.model.train()
            self.model.zero_grad(set_to_none=True)
            self.loss(name)["loss"].backward()

        return step

    @torch.no_grad()
    def largest_difference(self) -> float:
        """Between the losses that should be equal; passes that normalise by their own statistics are other networks."""
        for model in (self.model, self.cached):
            model.eval()
        plain = self.loss(PUBLISHED)
        others = [self.loss(name) for name in (OURS, CACHED)]
        return max(abs(float(plain[term]) - float(other[term])) for other in others for term in OBJECTIVES)
