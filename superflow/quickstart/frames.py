"""Which key frames of a log the quickstart takes: the log's splits, no more than its limit, images where it trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmark.one_log.plan import Plan
from ..errors import InputError

log = logging.getLogger(__name__)

# of consecutive key frames: the small configs ask for the frames 0.5 s before and after, which half of such a run has
RUN_S = 2.0


def plan_for(index: Any, plan: Plan, max_frames: int) -> Plan:
    """The plan with the frames of this log.

    Raises:
        InputError: too few key frames to hold any out, or none with images to train on.
    """
    if max_frames < 2:
        raise InputError(
            f"max_frames {max_frames} leaves no frame to measure on; half as many are, so give at least 2"
        )
    train, evaluate = split_scenes(index)
    train = limit_frames(index, frames_with_images(index, train), max_frames, purpose="training")
    evaluate = limit_frames(index, evaluate, max_frames // 2, purpose="evaluation")
    options = {**plan.options.get("pretrained", {}), "train_dataloader.dataset.frames": train}
    return replace(plan, train=train, evaluate=evaluate, options={**plan.options, "pretrained": options})


def split_scenes(index: Any) -> tuple[list[str], list[str]]:
    """Terms for training and evaluation: the splits ``train`` and ``val`` that the log states, of scans or of scenes.

    Of a log without splits the last quarter of the scenes is evaluated; of a single scene the first 70 % and the last
    25 % of the key frames are taken, and the gap keeps them from being the same frames. Where splits are stated and
    one of the two is empty, that is said, and no scene of another split is trained on.

    Raises:
        InputError: a single scene of fewer than 8 key frames, or every scene belongs to some other split.
    """
    if {"train", "val"} <= set(index.row_splits):
        return ["train"], ["val"]
    stated = {split: [s for s in scenes if s in index.scenes] for split, scenes in index.card.splits.items()}
    if not stated:
        return _hold_out(index, list(index.scenes))
    train, val = stated.get("train", []), stated.get("val", [])
    if train and val:
        return train, val
    free = [scene for scene in index.scenes if not any(scene in scenes for scenes in stated.values())]
    pool = train or free or val
    if not pool:
        raise InputError(
            f"{index.root}: all its scenes belong to the splits {_some([s for s in stated if stated[s]])}, none to "
            "train or val; name scenes to train on and to measure on as train and val in dataset.json"
        )
    chosen = (free, val) if val and free else _hold_out(index, pool)
    log.warning(
        "%s: its splits (%s) name no scene of this log as %s; training on %s and measuring on %s instead",
        index.root,
        _some(list(stated)),
        " or ".join(split for split, scenes in (("train", train), ("val", val)) if not scenes),
        *map(_some, chosen),
    )
    return chosen


def _hold_out(index: Any, scenes: list[str]) -> tuple[list[str], list[str]]:
    """The last quarter of the scenes, or of the key frames of a single one, kept from training."""
    if len(scenes) > 1:
        held_out = max(1, len(scenes) // 4)
        return scenes[:-held_out], scenes[-held_out:]
    count = len(index.rows(scenes))
    if count < 8:
        raise InputError(
            f"{index.root}: has {count} key frames; at least 8 are needed to train on some and test on others"
        )
    return [f"{scenes[0]}[:{int(0.7 * count)}]"], [f"{scenes[0]}[{int(0.75 * count)}:]"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def frames_with_images(index: Any, terms: Sequence[str]) -> list[str]:
    """Terms for those key frames of ``terms`` that have an image.

    Raises:
        InputError: none has.
    """
    rows = index.rows(terms)
    seen = rows[index.camera_count[rows] > 0]
    if not len(seen):
        raise InputError(f"{index.root}: its key frames have no images; pretraining needs cameras")
    if len(seen) == len(rows):
        return list(terms)
    log.info(
        "%d of %d key frames for training have no image and are left out", len(rows) - len(seen), len(rows)
    )
    return frame_terms(index, seen)


def limit_frames(index: Any, terms: Sequence[str], limit: int, *, purpose: str = "this run") -> list[str]:
    """Terms for at most ``limit`` of the key frames of ``terms``, spread over the scenes.

    Of scenes evenly spaced in the log the first frames are taken, of each the same number where it has so many: of as
    many scenes as leave each a run of `RUN_S`. Shorter scenes are passed over where longer ones have frames enough; a
    single scene is spread over in the same way.
    """
    rows = index.rows(terms)
    if len(rows) <= limit:
        return list(terms)
    interval_s = index.key_interval_s()
    run = round(RUN_S / interval_s) + 1 if interval_s else 1
    stretches = np.split(rows, np.flatnonzero(np.diff(index.scene_of[rows])) + 1)
    long = [stretch for stretch in stretches if len(stretch) >= run]
    if sum(map(len, long)) >= limit:
        stretches = long
    if len(stretches) == 1:
        stretches = np.array_split(stretches[0], max(1, limit // run))
    chosen = np.concatenate(_leading(stretches, limit, run))
    kept = frame_terms(index, chosen)
    log.info("%s takes %d of %d key frames: %s", purpose, len(chosen), len(rows), ", ".join(kept))
    return kept


def _leading(stretches: Sequence[NDArray], limit: int, run: int) -> list[NDArray]:
    """The first rows of evenly spaced stretches, ``limit`` in all at most."""
    lengths = np.array([len(stretch) for stretch in stretches])
    for count in range(len(lengths), 0, -1):
        places = np.arange(count) * len(lengths) // count
        if np.minimum(lengths[places], run).sum() <= limit:
            break
    longest = min(limit, int(lengths[places].max()))
    each = max(n for n in range(1, longest + 1) if np.minimum(lengths[places], n).sum() <= limit)
    return [stretches[place][:each] for place in places.tolist()]


def frame_terms(index: Any, rows: NDArray[np.integer]) -> list[str]:
    """Terms, as `LogIndex.rows` takes them, for key frames (R,) given as ascending rows of the index."""
    terms = []
    for number in np.unique(index.scene_of[rows]):
        name, keys = index.scenes[number], np.flatnonzero(index.is_key & (index.scene_of == number))
        places = np.searchsorted(keys, rows[index.scene_of[rows] == number])
        for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
            first = "" if run[0] == 0 else str(run[0])
            stop = "" if run[-1] == len(keys) - 1 else str(run[-1] + 1)
            terms.append(f"{name}[{first}:{stop}]" if first or stop else name)
    return terms
