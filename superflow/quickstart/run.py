"""The main job from end to end on one log: prepare, pretrain, probe, vote, export, report.

Every stage leaves a file that says it is done, so a run that was stopped goes on with the stage it was in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..benchmark.one_log.arms import labelled_frames, read_results, run_arms
from ..benchmark.one_log.plan import Plan, load_plan
from ..benchmark.preparation import DEFAULT_TEACHER, prepare_features, prepare_index, prepare_superpixels
from ..errors import InputError
from ..files.access import check_place, make_folder, no_folder, read_json
from ..files.writes import building, write_json
from ..progress import LogLines
from .compiling import compiling_beside
from .frames import frame_terms, plan_for
from .report import QuickstartResult, shown_rows, write_report

log = logging.getLogger(__name__)
PATIENCE_S = 5.0  # while the processes of one that was killed end


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """What a user may choose.

    data: a log in nuScenes schema; None makes a synthetic drive. reading: how that log is read, options of
    `datasets.sets.nuscenes.write_index`. out: folder of everything that is made. teacher: of the pretraining. seeds:
    each trains and probes once. max_frames: key frames of a large log that are used for training, and half as many for
    evaluation. jobs: processes at a time. plan: benchmark plan with the arms. allow_leakage: as in `Plan`.
    """

    out: Path
    data: Path | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = DEFAULT_TEACHER
    seeds: tuple[int, ...] = (0,)
    max_frames: int = 120
    jobs: int = 2
    plan: str = "quickstart"
    allow_leakage: bool = False


class Stages:
    """Names the stage on the log, and remembers over restarts how long each took.

    Args:
        file: JSON that keeps the seconds. total: number of stages, for the log.
    """

    def __init__(self, file: Path, total: int) -> None:
        self._file, self._total, self._number = file, total, 0
        self.seconds: dict[str, float] = read_json(file, "delete it") if file.is_file() else {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``; stages skip by themselves what they find done."""
        self._number += 1
        log.info("[%d/%d] %s", self._number, self._total, name)
        begun = time.monotonic()
        result = work()
        taken = time.monotonic() - begun
        # a repeated call that finds all done must not hide what the work took
        self.seconds[name] = round(max(taken, self.seconds.get(name, 0.0)), 1)
        write_json(self._file, self.seconds)
        return result


def run_quickstart(options: QuickstartOptions) -> QuickstartResult:
    """All stages; what is done already is not done again.

    Raises:
        InputError: the log or a part of it cannot be used, and what was made so far stays; or another process is at
            work in the same folder.
    """
    if options.data is not None and not options.data.is_dir():  # before a folder is made for it
        raise InputError(
            f"{options.data}: {no_folder(options.data)}; give the folder that holds samples/ and v1.0-*/"
        )
    check_place(make_folder(options.out))
    told = "another quickstart is running here; wait for it, or end it first: this one then goes on from what is there"
    with building(options.out, ".quickstart", busy=told, patience_s=PATIENCE_S):
        return _all_stages(options)


def _all_stages(options: QuickstartOptions) -> QuickstartResult:
    out = options.out
    stages = Stages(out / "seconds.json", total=7)
    root = stages.run(
        "make a synthetic drive" if options.data is None else "find the log", lambda: _log(options)
    )
    index = stages.run("index", lambda: prepare_index(root, out / "prepared", **options.reading))
    plan = plan_for(index, _plan(options), options.max_frames)
    labelled_frames(plan, index)  # refuses before the work
    stages.run("superpixels", lambda: _superpixels(index, plan))
    stages.run("teacher features", lambda: _features(index, plan, options))
    tasks = [(plan, arm, seed, out / "prepared", out / "runs") for seed in options.seeds for arm in plan.arms]
    stages.run("pretrain, probe and vote", lambda: _run(tasks, options.jobs))
    backbone = stages.run("export", lambda: _export(index, plan, options))
    records = list(read_results(plan, prepared=out / "prepared", out=out / "runs"))
    result = QuickstartResult(index, plan, records, stages.seconds, backbone)
    stages.run(
        "pictures and report", lambda: write_report(result, out / "report.html", pictures=out / "pictures")
    )
    return result


def _plan(options: QuickstartOptions) -> Plan:
    plan = load_plan(options.plan)
    return replace(plan, teacher=options.teacher, allow_leakage=options.allow_leakage or plan.allow_leakage)


def _log(options: QuickstartOptions) -> Path:
    if options.data is not None:
        return options.data
    from ..street.drive import DriveSettings, make_drive

    root = options.out / "drive"
    settings = DriveSettings(lidar_hz=4)  # of the sweeps between two key frames a clip takes one
    progress = LogLines(log)
    with compiling_beside():
        make_drive(root, scenes=11, val_scenes=3, settings=settings, workers=options.jobs, progress=progress)
    return root


def _superpixels(index: Any, plan: Plan) -> Path:
    """Of the frame of the report alone: pretraining has cells of the world for regions."""
    return prepare_superpixels(index, frame_terms(index, np.array(shown_rows(index, plan)[1:])))


def _features(index: Any, plan: Plan, options: QuickstartOptions) -> Path:
    cameras = index.cameras(index.rows(plan.train)[:1])  # plan_for left out frames without images
    return prepare_features(
        index, plan.train, teacher=options.teacher, size=teacher_size(cameras[0].size), threads=options.jobs
    )


def teacher_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height, width of the teacher's input: about the image's own, at most 448 x 832.

    `camera.cache_build.build_feature_cache` takes the nearest size that the teacher can see.
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
    """The pretrained encoder of the first seed as a file, its batch-norm statistics those of whole scans.

    One that lies there is taken only if it was made of that encoder and these frames: a run may be another since.
    """
    from ..downstream.recalibration import recalibrate_on_log
    from ..hub.backbone import card_of, save_backbone
    from ..hub.encoder_file import build_encoder, read_encoder_file, weights_hash

    target = options.out / "backbone.safetensors"
    beside = target.with_suffix(".made_of.json")
    arm = next(arm for arm in plan.arms if arm.kind == "pretrained")
    file = read_encoder_file(options.out / "runs" / arm.slug / f"seed_{options.seeds[0]}")
    made_of = {"weights": weights_hash(file.weights), "log": index.hash, "frames": plan.train}
    if target.is_file() and beside.is_file() and read_json(beside, "delete it") == made_of:
        return target
    card = replace(card_of(file), name="quickstart")
    encoder, card = recalibrate_on_log(build_encoder(file), card, index, index.rows(plan.train))
    save_backbone(encoder, target, card)
    write_json(beside, made_of)  # last: it vouches for the file
    return target
