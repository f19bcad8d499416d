"""The main job from end to end on one log: prepare, pretrain, probe, vote, export, report.

Every stage leaves a file that says it is done, so a run that was stopped goes on with the stage it was in.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .benchmark import Plan, load_plan, read_results, run_arms
from .camera.progress import Progress
from .errors import InputError, write_atomically
from .preparation import DEFAULT_TEACHER, prepare_features, prepare_index, prepare_superpixels
from .report import QuickstartResult, write_report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """What a user may choose.

    data: a log in nuScenes schema; None makes a synthetic drive. out: folder of everything that is made. teacher: of
    the pretraining. seeds: each trains and probes once. max_frames: key frames of a large log that are used for
    training, and half as many for evaluation. jobs: processes at a time. plan: benchmark plan with the arms.
    """

    out: Path
    data: Path | None = None
    teacher: str = DEFAULT_TEACHER
    seeds: tuple[int, ...] = (0,)
    max_frames: int = 120
    jobs: int = 2
    plan: str = "quickstart"


class Stages:
    """Names the stage on the log, and remembers over restarts how long each took.

    Args:
        file: JSON that keeps the seconds. total: number of stages, for the log.
    """

    def __init__(self, file: Path, total: int) -> None:
        self._file, self._total, self._number = file, total, 0
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``; stages skip by themselves what they find done."""
        self._number += 1
        log.info("[%d/%d] %s", self._number, self._total, name)
        begun = time.monotonic()
        result = work()
        taken = time.monotonic() - begun
        # a repeated call that finds all done must not hide what the work took
        self.seconds[name] = round(max(taken, self.seconds.get(name, 0.0)), 1)
        with write_atomically(self._file, "w") as file:
            json.dump(self.seconds, file, indent=1)
        return result


def run_quickstart(options: QuickstartOptions) -> QuickstartResult:
    """All stages; what is done already is not done again.

    Raises:
        InputError: the log or a part of it cannot be used; what was made so far stays.
    """
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out / "seconds.json", total=7)
    root = stages.run(
        "make a synthetic drive" if options.data is None else "find the log", lambda: _log(options)
    )
    index = stages.run("index", lambda: prepare_index(root, out / "prepared"))
    plan = plan_for(index, replace(load_plan(options.plan), teacher=options.teacher), options.max_frames)
    stages.run("superpixels", lambda: prepare_superpixels(index, plan.train, workers=options.jobs))
    stages.run("teacher features", lambda: _features(index, plan, options))
    tasks = [(plan, arm, seed, out / "prepared", out / "runs") for seed in options.seeds for arm in plan.arms]
    stages.run("pretrain, probe and vote", lambda: _run(tasks, options.jobs))
    backbone = stages.run("export", lambda: _export(index, plan, options))
    result = QuickstartResult(index, plan, list(read_results(out / "runs")), stages.seconds, backbone)
    stages.run(
        "pictures and report", lambda: write_report(result, out / "report.html", pictures=out / "pictures")
    )
    return result


def plan_for(index: Any, plan: Plan, max_frames: int) -> Plan:
    """The plan with the frames of this log.

    Raises:
        InputError: too few key frames to hold any out.
    """
    train, evaluate = split_scenes(index)
    train, evaluate = limit_frames(index, train, max_frames), limit_frames(index, evaluate, max_frames // 2)
    options = {**plan.options.get("pretrained", {}), "train_dataloader.dataset.frames": train}
    return replace(plan, train=train, evaluate=evaluate, options={**plan.options, "pretrained": options})


def split_scenes(index: Any) -> tuple[list[str], list[str]]:
    """Scene terms for training and evaluation: the splits the log names, else the last quarter of the scenes.

    Of a single scene the first 70 % and the last 25 % are taken; the gap keeps them from being the same frames.
    """
    names = {split: [s for s in scenes if s in index.scenes] for split, scenes in index.card.splits.items()}
    if names.get("train") and names.get("val"):
        return names["train"], names["val"]
    scenes = list(index.scenes)
    if len(scenes) > 1:
        held_out = max(1, len(scenes) // 4)
        return scenes[:-held_out], scenes[-held_out:]
    count = len(index.rows(scenes))
    if count < 8:
        raise InputError(
            f"{index.root}: has {count} key frames; at least 8 are needed to train on some and test on others"
        )
    return [f"{scenes[0]}[:{int(0.7 * count)}]"], [f"{scenes[0]}[{int(0.75 * count)}:]"]


def limit_frames(index: Any, terms: Sequence[str], limit: int) -> list[str]:
    """The first terms that hold at most ``limit`` key frames in all; the last one is cut to fit."""
    kept: list[str] = []
    left = limit
    for term in terms:
        count = len(index.rows([term]))
        if count > left and "[" not in term:
            term, count = f"{term}[:{left}]", left
        if left > 0 and count:
            kept.append(term)
            left -= count
    if len(kept) < len(terms) or any("[:" in k and k not in terms for k in kept):
        log.info("using %d key frames of this log: %s", limit - max(left, 0), ", ".join(kept))
    return kept


def _log(options: QuickstartOptions) -> Path:
    if options.data is not None:
        return options.data
    from .datasets.synthetic.drive import DriveSettings, make_drive

    root = options.out / "drive"
    bar: Progress | None = None
    before = 0

    def show(done: int, total: int) -> None:
        nonlocal bar, before
        if bar is None:  # scenes that an earlier call has made do not count as speed
            bar, before = Progress("key frames", total, done=done, log=log), done
        bar.advance(done - before)
        before = done

    make_drive(root, scenes=11, val_scenes=3, settings=DriveSettings(), workers=options.jobs, progress=show)
    return root


def _features(index: Any, plan: Plan, options: QuickstartOptions) -> Path:
    cameras = index.cameras(index.rows(plan.train)[:1])
    if not cameras:
        raise InputError(f"{index.root}: its key frames have no images; pretraining needs cameras")
    return prepare_features(
        index, plan.train, teacher=options.teacher, size=teacher_size(cameras[0].size), threads=options.jobs
    )


def teacher_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height, width of the teacher's input: about the image's own, at most 448 x 832.

    `camera.cache.build_feature_cache` takes the nearest size that the teacher can see.
    """
    factor = min(1.0, 832 / size[1], 448 / size[0]) if size[0] * size[1] > 448 * 832 else 1.0
    height, width = (max(32, round(side * factor / 32) * 32) for side in size)
    return height, width


def _run(tasks: list[tuple[Any, ...]], jobs: int) -> None:
    for record in run_arms(tasks, jobs=jobs):
        log.info("%s, seed %d: %s", record["arm"], record["seed"], _score(record))


def _score(record: dict[str, Any]) -> str:
    probe = record.get("probe")
    return "no labels to measure with" if not probe else f"mIoU {probe['scores']['linear']['miou']:.1f}"


def _export(index: Any, plan: Plan, options: QuickstartOptions) -> Path:
    """The pretrained encoder of the first seed as a file, its batch-norm statistics those of whole scans."""
    from .downstream.features import read_scan, recalibrate_batch_norm
    from .encoder_file import build_encoder, read_encoder_file
    from .hub import card_of, save_backbone

    target = options.out / "backbone.safetensors"
    if target.is_file():
        return target
    arm = next(arm for arm in plan.arms if arm.kind == "pretrained")
    file = read_encoder_file(options.out / "runs" / arm.slug / f"seed_{options.seeds[0]}")
    rows = index.rows(plan.train)
    rows = rows[:: max(1, len(rows) // 20)]
    encoder = recalibrate_batch_norm(
        build_encoder(file), (read_scan(index, int(row), labels=False).points for row in rows)
    )
    save_backbone(encoder, target, replace(card_of(file), name="quickstart"))
    return target
