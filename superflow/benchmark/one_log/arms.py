"""The same probe for every way of pretraining: each arm of a plan runs with several seeds.

Every result is a JSON file of its own, so a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import read_json
from ...files.writes import write_json
from ...method.launch import refuse_several
from ...progress import Stopwatch
from ...protocol import commit, device_name, peak_memory
from ..preparation import prepared_hashes
from ..results import AGAIN, claim, differs, hash_of_config
from ..shards import run_shards
from .plan import Arm, Plan
from .table import COLUMNS, LOOKUP, figure_of

log = logging.getLogger(__name__)

NO_LEAKAGE: dict[str, Any] = {"allowed": False, "recordings": []}  # of what begins with no weights


def run_arm(plan: Plan, arm: Arm, seed: int, *, prepared: str | Path, out: str | Path) -> dict[str, Any]:
    """Train, probe and vote one arm with one seed; the record, also when it was made before.

    Args:
        prepared: folder that `preparation` filled. out: folder of the benchmark.
    """
    from ...datasets.index import LogIndex

    folder = Path(out) / arm.slug / f"seed_{seed}"
    result = folder / "benchmark.json"
    index = LogIndex.open(prepared)
    config: Any = None if arm.kind == "raw" else _config(plan, arm, seed, prepared, folder)
    claim(result, _made_of(plan, index, arm, config, prepared))
    if result.is_file():
        return _allowed(_read(result), result, allowed=plan.allow_leakage)
    labelled = labelled_frames(plan, index)  # refuses before the work
    from ...downstream.features import EncoderFeatures, RawCoordinates
    from ...lidar.encoder import LidarEncoder

    watch = Stopwatch()
    training: dict[str, Any] = {}
    if arm.kind == "raw":
        source: Any = RawCoordinates()
    elif arm.kind == "random":
        import torch

        from ...engine.registry import as_plain

        torch.manual_seed(seed)
        source = EncoderFeatures(LidarEncoder(**as_plain(config.model.student)))
    else:
        encoder, training = _train(config, index, index.rows(plan.evaluate))
        source = EncoderFeatures(encoder)
    watch.lap("train")
    record = {
        "arm": arm.name,
        "kind": arm.kind,
        "seed": seed,
        "config": arm.config,
        "training": training,
        "leakage": training.get("leakage", NO_LEAKAGE),
        **_measure(plan, index, labelled, source, arm, seed, training, watch),
    }
    record |= {"seconds": watch.wall, "cpu_seconds": watch.cpu, **_provenance()}
    write_json(result, record)
    return record


def read_results(plan: Plan, *, prepared: str | Path, out: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a benchmark's folder that are of this plan; of other seeds some may be of a plan of before."""
    from ...datasets.index import LogIndex

    index = LogIndex.open(prepared)
    for path in sorted(Path(out).glob("*/seed_*/benchmark.json")):
        record = _read(path)
        arm = next((arm for arm in plan.arms if arm.name == record["arm"]), None)
        if arm is None:
            continue
        config = None if arm.kind == "raw" else _config(plan, arm, record["seed"], prepared, path.parent)
        if differing := differs(path, _made_of(plan, index, arm, config, prepared)):
            log.warning("%s: is of another %s, so it is left out of the table", path, differing)
        else:
            yield record


def _read(result: Path) -> dict[str, Any]:
    """A record of before, with the figures that `table.COLUMNS` takes from it."""
    record = read_json(result, AGAIN)
    if not isinstance(record.get("arm"), str) or not isinstance(record.get("seed"), int):
        raise InputError(f"{result}: does not say of which arm and seed it is; {AGAIN}")
    for name, place in COLUMNS.items():
        value = figure_of(record, place)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{result}: its {name} is {str(value)[:40]!r}, no number; {AGAIN}")
    return record


def _allowed(record: dict[str, Any], result: Path, *, allowed: bool) -> dict[str, Any]:
    """A record of before, if it may still stand for this call."""
    drives = record.get("leakage", NO_LEAKAGE)["recordings"]
    if drives and not allowed:
        raise InputError(
            f"{result}: was measured on drives that the weights were trained on ({', '.join(drives[:3])}), with "
            "--allow-leakage; give it again, or choose another folder for results"
        )
    return record


def _made_of(plan: Plan, index: Any, arm: Arm | None, config: Any, prepared: str | Path) -> dict[str, Any]:
    """What a result depends on beside the code: a folder of results must not mix two of them."""
    measured = {
        name: getattr(plan, name)
        for name in ("train", "held_out", "evaluate", "new_places_m", "vote_frames", "teacher")
    }
    found = {"log": index.hash, **{name: json.loads(json.dumps(value)) for name, value in measured.items()}}
    if config is not None:
        found["config"] = hash_of_config(config, {str(prepared): "PREPARED"})
    if arm is not None and arm.kind == "pretrained":
        found |= prepared_hashes(config)
    return found


def _provenance() -> dict[str, Any]:
    return {"commit": commit(), "device": device_name(), **peak_memory()}


def _measure(
    plan: Plan,
    index: Any,
    labelled: Mapping[str, list[int]],
    source: Any,
    arm: Arm,
    seed: int,
    training: Mapping[str, Any],
    watch: Stopwatch,
) -> dict[str, Any]:
    """Probe and vote: the part that is the same for every arm."""
    from ...downstream.probe import ProbeOptions, probe
    from ...downstream.vote_log import evaluate_voting, head_predictor
    from ...downstream.voting import VotingOptions

    if not labelled:
        log.warning(
            "%s: without labels in training and evaluation frames there is nothing to probe", index.root
        )
        return {"probe": None, "votes": None}
    train, evaluate = labelled["train"], labelled["evaluate"]
    teacher = training.get("superflow", {}).get("teacher") or {}
    found = probe(
        source,
        index,
        train,
        evaluate,
        held_out_rows=labelled.get("held_out"),
        options=ProbeOptions(place_size_m=plan.new_places_m, seed=seed),
        protocol={"pretraining": arm.name, "teacher": teacher.get("name", "none")},
    )
    watch.lap("probe")
    if not index.has_poses:
        log.warning(
            "%s: without a pose of every scan there are no votes, and those columns stay empty", index.root
        )
        return {"probe": found.record(), "votes": None}
    votes = evaluate_voting(
        index,
        evaluate,
        head_predictor(found.source, found.head),
        {
            "offline": VotingOptions.window(plan.vote_frames),
            "causal": VotingOptions.window(plan.vote_frames, causal=True),
        },
        labelled_rows=train,
    )
    watch.lap("vote")
    return {"probe": found.record(), "votes": votes}


def labelled_frames(plan: Plan, index: Any) -> dict[str, list[int]]:
    """Rows with labels of the frames ``train``, ``evaluate`` and, where the plan names some, ``held_out``.

    A probe neither learns from the others nor is judged on them. Empty where the log has none to learn from or none to
    be judged on.

    Raises:
        InputError: there are label files, but none of those to fit on, to choose by or to be judged on has a point of
            a class; or a frame is learned from and judged on, or ``held_out`` leaves nothing to learn from.
    """
    from ...downstream.labelled import labelled_rows, require_apart, require_labelled_points
    from ...downstream.probe import split_held_out

    named = {"train": plan.train, "evaluate": plan.evaluate}
    named |= {} if plan.held_out is None else {"held_out": plan.held_out}
    labelled = {name: labelled_rows(index, frames) for name, frames in named.items()}
    if not labelled["train"] or not labelled["evaluate"]:
        return {}
    choosing = {name: rows for name, rows in labelled.items() if name == "held_out"}
    require_apart(index, labelled["train"], labelled["evaluate"], choosing, "the plan")
    fit, held_out = split_held_out(labelled["train"], labelled.get("held_out"))
    for purpose, rows in (("training", fit), ("held-out", held_out), ("evaluation", labelled["evaluate"])):
        require_labelled_points(index, rows, purpose)
    return labelled


def _config(plan: Plan, arm: Arm, seed: int, prepared: str | Path, folder: Path) -> Any:
    from ...engine.config import load_config

    # a random encoder is described where its pretraining is
    kind = "supervised" if arm.kind == "supervised" else "pretrained"
    shared = dict(plan.options.get(kind, {}))
    if kind == "pretrained":
        features = str(Path(prepared) / "features" / plan.teacher)
        shared |= {"train_dataloader.dataset.views.features": features}
    assert arm.config is not None, "an arm that trains has one"  # Arm says so
    return load_config(
        arm.config,
        options={**shared, **arm.options},
        work_dir=folder,
        data_root=prepared,
        seed=seed,
        launcher="none",
        resume=True,
        allow_leakage=plan.allow_leakage,
    )


def _train(config: Any, index: Any, evaluate: Any) -> tuple[Any, dict[str, Any]]:
    """The trained encoder, which has seen no drive of the rows ``evaluate`` elsewhere, and the run's own record."""
    from ...engine.runner import build_runner
    from ...hub.encoder_file import load_encoder
    from ...hub.leakage import evaluated_record

    runner = build_runner(config)
    runner.evaluated["probe"] = evaluated_record(index, evaluate)
    runner.train()
    run = Path(config.work_dir)
    return load_encoder(run), read_json(run / "result.json", AGAIN)


def run_arms(tasks: Sequence[tuple[Plan, Arm, int, Path, Path]], *, jobs: int) -> Iterator[dict[str, Any]]:
    """Records of (plan, arm, seed, prepared, out), as they finish: ``jobs`` processes at a time, see `run_shards`.

    Raises:
        InputError: this is one of several processes that were started for the same; at the end, when every other run
            is done, naming the first run that failed and why.
    """
    refuse_several(os.environ)
    failed: list[str] = []
    for (_, arm, seed, *_), found in run_shards(_run_task, tasks, jobs=jobs):
        if isinstance(found, BaseException):
            failed.append(f"{arm.name}, seed {seed}: {found}")
            log.error("failed: %s", failed[-1])
        else:
            yield found
    if failed:
        raise InputError(f"{len(failed)} of {len(tasks)} runs failed, the first one {failed[0]}")


def _run_task(task: tuple[Plan, Arm, int, Path, Path]) -> dict[str, Any]:
    plan, arm, seed, prepared, out = task
    return run_arm(plan, arm, seed, prepared=prepared, out=out)


def lookup_control(plan: Plan, *, prepared: str | Path, out: str | Path) -> dict[str, Any] | None:
    """The record of the control without a network, made once: every place keeps its label of the training frames.

    None where the plan's frames share no world. It shows what labels carried through poses would reach; a figure above
    it is suspicious, and one below it says nothing about features.
    """
    if plan.new_places_m is None:
        return None
    from ...datasets.index import LogIndex
    from ...downstream.evaluation import lookup_scores

    file = Path(out) / "label_lookup.json"
    index = LogIndex.open(prepared)
    claim(file, _made_of(plan, index, None, None, prepared))
    if file.is_file():
        return _read(file)
    train, evaluate = index.rows(plan.train).tolist(), index.rows(plan.evaluate).tolist()
    scores = lookup_scores(index, train, evaluate, size_m=plan.new_places_m)
    renamed = {name.replace("label look-up", "linear"): value for name, value in scores.items()}
    record = {"arm": LOOKUP, "seed": 0, "probe": {"scores": renamed}, **_provenance()}
    write_json(file, record)
    return record
