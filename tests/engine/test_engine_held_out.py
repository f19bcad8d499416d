"""The loss on held-out clips in two processes, one of which has a batch more than the other."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1] / "superflow"))
from small_batch import EveryPointAVoxel, Fixed, make_clip

from superflow.engine.evaluation import LossMetric
from superflow.engine.loader import build_loader
from superflow.engine.loops import ValLoop
from superflow.engine.model import EngineModel
from superflow.errors import InputError
from superflow.method.launch import leave
from superflow.method.pretrainer import Pretrainer

CLIPS = 3
OBJECTIVES = [
    {"type": "spatial", "same_id": "ignored", "queue": 64, "learn_temperature": True},
    {"type": "temporal", "same_id": "positive"},
    {"type": "cross_temporal", "symmetric": True},
    {"type": "dense_to_sparse", "kind": "cosine"},
    {"type": "point_regression"},
    {"type": "point_contrast", "learn_temperature": True},
]


def evaluate(rank: int) -> dict[str, float]:
    """What an evaluation during pretraining says."""
    torch.manual_seed(0)
    model = EngineModel(Pretrainer(EveryPointAVoxel(), Fixed(), objectives=OBJECTIVES, channels=6))
    runner = SimpleNamespace(
        model=model,
        engine_model=model,
        seed=0,
        rank=rank,
        call_hook=lambda name, **given: None,
        build_evaluator=lambda metric: metric,
    )
    clips = [make_clip(seed) for seed in range(CLIPS)]
    loader = build_loader({"dataset": clips}, seed=0, purpose="validation")
    return ValLoop(runner, loader, LossMetric()).run()


def test_ranks_with_unequally_many_batches_evaluate_like_one_process(tmp_path: Path) -> None:
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in (0, 1)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    one = evaluate(0)
    assert one["loss"] > 0
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("batches", "judged"),
    [
        ([{"loss": 0.0, "pairs": 0.0}] * 2, False),
        ([{"loss": 0.0, "pairs": 0.0}, {"loss": 2.0, "pairs": 7.0}], True),
        ([{"loss": 0.0}], True),
    ],
    ids=["no pair", "one batch without pairs", "a model that counts none"],
)
def test_held_out_frames_without_a_pair_are_not_judged(batches: list[dict[str, float]], judged: bool) -> None:
    metric = LossMetric()
    for losses in batches:
        metric.process(data_batch=None, data_samples=(None, losses))
    if judged:
        assert metric.evaluate(len(batches))["loss"] == sum(losses["loss"] for losses in batches) / len(
            batches
        )
        return
    with pytest.raises(
        InputError, match=r"none of the 2 held-out frames has a LiDAR point on an image; .* --check"
    ):
        metric.evaluate(len(batches))


def test_what_only_some_batches_give_is_the_mean_over_these(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [{"loss": 2.0, "spatial_top1": 0.8}, {"loss": 1.0}, {"loss": 0.0, "spatial_top1": 0.4}]
    one = LossMetric()
    for losses in batches:
        one.process(data_batch=None, data_samples=(None, losses))
    wanted = {"loss": 1.0, "spatial_top1": pytest.approx(0.6)}
    assert one.evaluate(3) == wanted
    ranks = [LossMetric(), LossMetric()]  # the second one's batch has no rows of that contrast
    for rank, losses in zip((0, 1, 0), batches):
        ranks[rank].process(data_batch=None, data_samples=(None, losses))
    sums = [rank._sums for rank in ranks]
    monkeypatch.setattr("superflow.engine.evaluation.gather_values", lambda value: sums)
    assert [rank.evaluate(3) for rank in ranks] == [wanted, wanted]


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    limit = timedelta(seconds=20)  # a rank that waits for one without a batch would wait that long
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2, timeout=limit)
    torch.save(evaluate(rank), folder / f"{rank}.pt")
    leave()
