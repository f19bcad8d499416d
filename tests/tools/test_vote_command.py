"""`superflow test --vote` and `--pseudo-labels`, and training on what they wrote."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from superflow.datasets.index import LogIndex
from superflow.tools.main import main

CONFIG = "downstream/finetune_small.py"
TRAINED, LEFT, EVALUATED = "scene-0001[0:1]", "scene-0001", "scene-0003"


@pytest.fixture(scope="module")
def run(prepared_log, tmp_path_factory):
    """Folder of a short run that was trained on one frame."""
    work = tmp_path_factory.mktemp("voted") / "run"
    assert main(["train", CONFIG, "--work-dir", str(work), *options(prepared_log)]) == 0
    return work


def options(prepared_log, *further, trained=TRAINED):
    return [
        *("--data-root", str(prepared_log / "prepared"), "--cfg-options", "train_cfg.max_iters=2"),
        *("model.encoder.backbone.width=0.5", "train_dataloader.batch_size=1"),
        f"train_dataloader.dataset.frames={trained}",
        f"val_dataloader.dataset.frames={EVALUATED}",
        f"test_dataloader.dataset.frames={EVALUATED}",
        *further,
    ]


def vote(prepared_log, run, out, *arguments, **choice):
    return main(
        ["test", CONFIG, str(run), "--work-dir", str(out), *arguments, *options(prepared_log, **choice)]
    )


def test_votes_stand_beside_the_plain_figure_and_their_control(prepared_log, run, tmp_path, capsys):
    assert vote(prepared_log, run, tmp_path, "--vote") == 0
    said = capsys.readouterr().out
    assert re.search(r"^unvoted +[\d.]+$", said, re.MULTILINE)
    assert re.search(r"^voted, offline +[\d.]+ +[\d.]+$", said, re.MULTILINE)
    assert re.search(r"^voted, causal +[\d.]+ +[\d.]+$", said, re.MULTILINE)
    report = json.loads((tmp_path / "test_votes.json").read_text())
    plain = json.loads((tmp_path / "test_result.json").read_text())["metrics"]
    assert report["unvoted"]["miou"] == pytest.approx(plain["miou"])
    assert report["eval_frames"] == 4
    assert report["variants"]["causal"]["options"]["offsets"] == [-2, -1]
    assert set(report["variants"]["offline"]) >= {"scores", "control", "coverage"}


def test_pseudo_labels_are_written_and_trained_on(prepared_log, run, tmp_path, capsys):
    pseudo = tmp_path / "pseudo"
    given = ["--pseudo-labels", str(pseudo), "--pseudo-frames", LEFT]
    assert vote(prepared_log, run, tmp_path / "tested", *given) == 0
    assert f"{pseudo}: pseudo-labels of 3 frames" in capsys.readouterr().out
    index = LogIndex.open(prepared_log / "prepared")
    wanted = index.tokens(index.rows("scene-0001[1:]"))
    assert sorted(path.name for path in pseudo.glob("*.bin")) == sorted(f"{t}_pseudo.bin" for t in wanted)
    assert vote(prepared_log, run, tmp_path / "tested", *given, "--test-time-augmentation") == 2
    assert "holds pseudo-labels made with other test_time_augmentation" in capsys.readouterr().err
    record = json.loads((pseudo / "pseudo_labels.json").read_text())
    assert record["labelled_frames"] == 1
    assert record["iteration"] == 2
    for token in wanted:
        np.full(50, 2, dtype=np.uint8).tofile(pseudo / f"{token}_pseudo.bin")
    again = tmp_path / "again"
    source = f"train_dataloader.dataset.pseudo_labels={pseudo}"
    assert (
        main(["train", CONFIG, "--work-dir", str(again), *options(prepared_log, source, trained=LEFT)]) == 0
    )
    data = json.loads((again / "result.json").read_text())["data"]
    assert data["train"]["pseudo_labels"] == {"folder": str(pseudo), "frames": 3}
    assert "pseudo_labels" not in data["val"]


@pytest.mark.parametrize(
    ("arguments", "choice", "message"),
    [
        (["--pseudo-frames", LEFT], {}, "--pseudo-labels and --pseudo-frames belong together"),
        (
            ["--pseudo-labels", "OUT", "--pseudo-frames", EVALUATED],
            {},
            "is evaluated although it is to get pseudo-labels; choose other frames for these (4 in all)",
        ),
        (
            ["--pseudo-labels", "OUT", "--pseudo-frames", TRAINED],
            {},
            f"pseudo-labels for {TRAINED}: the model was trained on the labels of all these frames; choose others",
        ),
        (["--vote"], {"trained": LEFT}, "was not trained on the 4 frames of this config's train_dataloader"),
        (
            ["--vote"],
            {"trained": "autumn"},
            "the training frames of this config, which may not vote, cannot be read ('autumn' is neither a split",
        ),
    ],
)
def test_what_would_not_be_honest_is_refused_before_the_work(
    prepared_log, run, tmp_path, capsys, arguments, choice, message
):
    arguments = [word.replace("OUT", str(tmp_path / "pseudo")) for word in arguments]
    assert vote(prepared_log, run, tmp_path / "tested", *arguments, **choice) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tested" / "test_result.json").exists()
    assert not (tmp_path / "pseudo").exists()


def test_a_frame_that_was_trained_on_is_not_judged_by_votes(prepared_log, run, tmp_path, capsys):
    arguments = ["test", CONFIG, str(run), "--work-dir", str(tmp_path), "--vote", *options(prepared_log)]
    assert main([*arguments, "test_dataloader.dataset.frames=scene-0001"]) == 2
    assert "is evaluated although the model was trained on its labels" in capsys.readouterr().err


def test_a_pretraining_cannot_vote(run, tmp_path, capsys):
    arguments = ["test", "pretrain/slidr_small.py", str(run), "--work-dir", str(tmp_path), "--vote"]
    assert main(arguments) == 2
    assert "need the config that a Segmentor was trained with" in capsys.readouterr().err
    assert main([*arguments[:-1], "--predictions", str(tmp_path / "made")]) == 2
    assert (
        "--predictions writes the classes of a Segmentor, and Pretrainer gives none"
        in capsys.readouterr().err
    )
