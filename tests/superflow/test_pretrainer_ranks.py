"""Pretraining in two processes has the gradient of one process with both clips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pretrainer_rank
import torch

from superflow.batch import collate

HERE = Path(__file__).parent


def test_mistake_44_negatives_of_all_ranks_make_the_joint_gradient(tmp_path):
    command = [sys.executable, str(HERE / "pretrainer_rank.py")]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store"), str(tmp_path / "out.pt")])
        for rank in (0, 1)
    ]
    assert [process.wait(120) for process in ranks] == [0, 0]

    one = pretrainer_rank.model()
    one.loss(collate(pretrainer_rank.clips()))
    one.loss(collate(pretrainer_rank.clips()))["loss"].backward()
    two = torch.load(tmp_path / "out.pt", weights_only=True)
    alone = pretrainer_rank.model()
    alone.loss(pretrainer_rank.clips()[0])
    alone.loss(pretrainer_rank.clips()[0])["loss"].backward()
    for name, wanted in pretrainer_rank.gradients(one).items():
        torch.testing.assert_close(two[name], wanted, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(pretrainer_rank.gradients(alone)[name], wanted, rtol=1e-2)
