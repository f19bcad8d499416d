"""One of two processes that each hold one clip, through every case: pretrainer_rank.py RANK STORE OUT.

A case is a pretrainer and the clips that the ranks hold. There is one for every value of every option of every
objective, and for every two options of the objectives that are contrasts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_batch import CLASSES, EVERY, EveryPointAVoxel, Fixed, make_clip
from torch import Tensor

from superflow.clips.batch import Batch
from superflow.method.launch import leave
from superflow.method.pretrainer import Pretrainer

CONTRAST: dict[str, list[Any]] = {
    "temperature": [0.3],
    "learn_temperature": [True],
    "symmetric": [True],
    "gather": [False],
    "same_id": ["ignored", "positive"],
    "tolerance": [0.1],
    "max_rows": [64],  # all of them: which are drawn is each process's own affair
    "queue": [64],
}
# objective -> option -> values that are tried besides the default
TRIED: dict[str, dict[str, list[Any]]] = {
    "spatial": CONTRAST,
    "temporal": CONTRAST | {"stop_neighbour": [True]},
    "cross_temporal": CONTRAST,
    "dense_to_sparse": CONTRAST | {"kind": ["cosine", "l2"], "stop": ["dense", "sparse"]},
    "point_regression": {"kind": ["l2"], "even": [True]},
    "point_contrast": {
        "temperature": [0.3],
        "learn_temperature": [True],
        "gather": [False],
        "max_pairs": [512],  # all of them
        "even": [True],
    },
    "tolerant_spatial": {
        "temperature": [0.3],
        "learn_temperature": [True],
        "gather": [False],
        "quantile": [None, 0.3],
        "balance": [False],
        "max_rows": [64],
    },
    "point_to_region": {
        "temperature": [0.3],
        "learn_temperature": [True],
        "gather": [False],
        "stop_region": [True],
    },
    "stage_regression": {"stages": [1, 3], "hidden": [8], "kind": ["l2"], "even": [True]},
    "global_regression": {"hidden": [8]},
    "prototypes": {
        "prototypes": [8],
        "temperature": [0.3],
        "target_temperature": [0.2],
        "zipf": [0.0],
        "rounds": [0],
        "max_pairs": [512],
        "hidden": [8],
    },
    "segmentation": {"class_weights": ["none"], "lovasz": [2.0]},
}
REFUSED = {("gather", "queue")}  # a queue holds the rows of all ranks


def cases() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name, options of the pretrainer, and a key of `CLIPS`."""
    for name, options in TRIED.items():
        given = [{}] + [{option: value} for option, values in options.items() for value in values]
        if name == "spatial":  # all regional contrasts read their options in one place
            given += [a | b for a, b in combinations(given[1:], 2) if _possible(a, b)]
        for chosen in given:
            clips = "same times" if chosen.get("gather") is False else "unequal"
            label = ", ".join([name, *(f"{key}={value}" for key, value in chosen.items())])
            yield label, {"objectives": [{"type": name, **chosen}]}, clips
    everything = {"objectives": [{"type": name, "weight": 0.5} for name in EVERY]}
    tolerant = {"type": "temporal", "tolerance": 0.1, "queue": 64, "same_id": "ignored"}
    yield "all", everything, "unequal"
    yield "all, one rank without pairs", everything, "one without pairs"
    yield "all, no rank with pairs", everything, "none with pairs"
    yield "pixels hit", {"objectives": [tolerant], "pixels": "hit", "normalize": "after"}, "unequal"
    yield (
        "scope image",
        {"objectives": [tolerant | {"type": "spatial"}], "region": {"scope": "image"}},
        "unequal",
    )


def _possible(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() != b.keys() and not {(*a, *b), (*b, *a)} & REFUSED


def _no_pairs(clip: Batch) -> Batch:
    fields = ("pair_point", "pair_image", "pair_pixel", "pair_region")
    return replace(clip, **{name: getattr(clip, name)[:0] for name in fields})


CLIPS: dict[str, list[Batch]] = {
    # the second has no previous frame and fewer rows: ranks need not have the same terms
    "unequal": [make_clip(0), make_clip(1, offsets=(0, 1), ids=4)],
    "same times": [make_clip(0), make_clip(1, ids=4)],
    "one without pairs": [make_clip(0), _no_pairs(make_clip(1))],
    "none with pairs": [_no_pairs(make_clip(0)), _no_pairs(make_clip(1))],
}


def first_come(count: int) -> Tensor:
    """Stands for ``torch.randperm``: one process must draw what two draw."""
    return torch.arange(count)


def outcome(options: dict[str, Any], batch: Batch) -> dict[str, Any]:
    """Gradients and values of the second step; the first one fills queues. And the model's state after it."""
    torch.manual_seed(0)
    labels_alone = [entry["type"] for entry in options["objectives"]] == ["segmentation"]
    teacher = None if labels_alone else Fixed()
    model = Pretrainer(EveryPointAVoxel(), teacher, **({"channels": 6, "num_classes": CLASSES} | options))
    model.loss(batch)
    # a step: else positives tie with their copies in a queue, and rounding says which is best
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.arange(parameter.numel()).sin().view_as(parameter)
    out = model.loss(batch)
    out["loss"].backward()
    return {
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "values": {name: float(torch.as_tensor(out[name]).detach()) for name in out if name != "_features"},
        "state": model.state_dict(),
    }


if __name__ == "__main__":
    rank, store, path = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.randperm = first_come
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for label, options, clips in cases():
        found[label] = outcome(options, CLIPS[clips][rank])
        for gradient in found[label]["gradients"].values():
            dist.all_reduce(gradient)
            gradient /= 2  # what DistributedDataParallel does
    torch.save(found, path)
    leave()
