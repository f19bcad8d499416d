"""One of two processes that each hold one clip: pretrainer_rank.py RANK STORE OUT (beside small_batch.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small_batch import EveryPointAVoxel, Fixed, make_clip
from torch import nn

from superflow.pretrainer import Pretrainer

OBJECTIVES = [
    {"type": "spatial", "same_id": "ignored", "queue": 64, "learn_temperature": True},
    {"type": "temporal", "same_id": "positive"},
    {"type": "cross_temporal", "symmetric": True},
    {"type": "dense_to_sparse", "kind": "cosine"},
    {"type": "point_regression"},
    {"type": "point_contrast", "learn_temperature": True},
]


def clips():
    """The second has no previous frame and fewer rows: ranks need not have the same terms."""
    return [make_clip(0), make_clip(1, offsets=(0, 1), ids=4)]


def model() -> Pretrainer:
    torch.manual_seed(0)
    return Pretrainer(EveryPointAVoxel(), Fixed(), objectives=OBJECTIVES, channels=6)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}


if __name__ == "__main__":
    rank, store, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    net = model()
    net.loss(clips()[rank])  # fills the queue
    net.loss(clips()[rank])["loss"].backward()
    for gradient in gradients(net).values():
        dist.all_reduce(gradient)
        gradient /= 2  # what DistributedDataParallel does
    if rank == 0:
        torch.save(gradients(net), out)
    dist.destroy_process_group()
