"""Labels in pretraining: read where the config names the objective and nowhere else, and the card says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import superflow
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.tools.main import main

SMALL = ("train_cfg.max_iters=2", "train_dataloader.batch_size=1", "model.student.backbone.width=0.25")
SCENE = "train_dataloader.dataset.frames=scene-0001"


def train(prepared_log, work, config: str, *options: str) -> int:
    prepared = prepared_log / "prepared"
    given = ["--work-dir", str(work), "--data-root", str(prepared), "--cfg-options", *SMALL, SCENE, *options]
    return main(["train", f"pretrain/{config}.py", *given])


def with_images(prepared_log) -> list[str]:
    views = "train_dataloader.dataset.views"
    return [f"{views}.features={prepared_log}/prepared/features/filter_bank", f"{views}.size=(36,64)"]


def test_labels_alone_train_a_backbone_whose_card_says_so(prepared_log, tmp_path):
    assert train(prepared_log, tmp_path / "run", "made_labels_small") == 0
    file = tmp_path / "b.safetensors"
    assert main(["export", str(tmp_path / "run"), "--out", str(file)]) == 0
    card = superflow.load(file).card
    assert card.teacher is None
    assert [entry["type"] for entry in card.method["objectives"]] == ["segmentation"]
    assert card.method["classes"] == len(LogIndex.open(prepared_log / "prepared").card.classes)
    assert card.limits == {"range_m": [1.5, 60.0], "height_m": [-5.0, 14.0]}


def test_labels_beside_the_image_teacher(prepared_log, tmp_path):
    assert train(prepared_log, tmp_path / "run", "superflowpp_labels_small", *with_images(prepared_log)) == 0
    card = superflow.load(tmp_path / "run" / "iter_2.pth").card
    assert card.teacher["name"] == "filter_bank"
    assert {"segmentation", "cross_temporal"} <= {entry["type"] for entry in card.method["objectives"]}
    assert card.data["train"]["labels"] == {"frames": 4}


def test_the_best_learns_labels_after_images_and_its_card_says_so(prepared_log, tmp_path):
    images, best = tmp_path / "images", tmp_path / "best"
    assert train(prepared_log, images, "superflowpp_small", *with_images(prepared_log)) == 0
    small = [*SMALL[:2], "model.encoder.backbone.width=0.25", SCENE, f"model.pretrained={images}"]
    given = ["--data-root", str(prepared_log / "prepared"), "--work-dir", str(best), "--cfg-options", *small]
    assert main(["train", "pretrain/best_small.py", *given, "val_dataloader.dataset.frames=scene-0001"]) == 0
    file = tmp_path / "b.safetensors"
    assert main(["export", str(best), "--out", str(file)]) == 0
    card = superflow.load(file).card
    assert card.teacher["name"] == "filter_bank"
    assert card.method["pretrained"]["file"] == "iter_2.pth"


def test_going_on_sees_images_of_one_log_and_labels_of_another(prepared_log, tmp_path, capsys):
    prepared, parts = prepared_log / "prepared", "train_dataloader.dataset.parts"
    options = [
        "train_cfg.max_iters=2",
        f"{parts}.0.frames=scene-0001",
        f"{parts}.0.views.features={prepared}/features/filter_bank",
        f"{parts}.0.views.size=(36,64)",
        f"{parts}.1.index={prepared}",
        f"{parts}.1.frames=scene-0001",
    ]
    given = ["--data-root", str(prepared), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    assert main(["train", "pretrain/go_on_small.py", *given]) == 0
    assert "of the objectives" not in capsys.readouterr().out  # that were 0 all the time
    card = superflow.load(tmp_path / "run" / "iter_2.pth").card
    assert card.method["pretrained"]["file"] == "street-tiny.safetensors"
    images, labels = card.data["train"]["parts"]
    assert ("labels" in images, labels["labels"]) == (False, {"frames": 4})


@pytest.mark.parametrize(
    ("config", "option", "message"),
    [
        ("superflowpp_small", "clouds.labels=True", "reads labels, and no objective learns from them"),
        (
            "superflowpp_labels_small",
            "clouds.labels=False",
            "reads no labels, and the objective segmentation learns",
        ),
    ],
)
def test_objective_and_labels_go_together(prepared_log, tmp_path, capsys, config, option, message):
    options = [*with_images(prepared_log), f"train_dataloader.dataset.{option}"]
    assert train(prepared_log, tmp_path / "run", config, *options) == 2
    assert message in capsys.readouterr().err


def test_a_log_without_labels_is_refused(log_copy, tmp_path, capsys):
    (log_copy / "log" / "v1.0-mini" / "lidarseg.json").write_text("[]")
    index = ["--root", str(log_copy / "log"), "--out", str(log_copy / "prepared")]
    assert main(["prepare", "nuscenes", *index]) == 0
    assert train(log_copy, tmp_path / "run", "superflowpp_labels_small", *with_images(log_copy)) == 2
    assert "none of the 4 chosen frames has labels; set train_dataloader" in capsys.readouterr().err


def test_points_of_a_clip_keep_their_labels(prepared_log):
    """At all times, cropped, thinned, seen from elsewhere and turned; those of sweeps have none."""
    index = LogIndex.open(prepared_log / "prepared")
    still = {"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)}
    options = {
        "frames": "scene-0001",
        "region": "world_cell",
        "times": {"offsets": (-1, 0, 1)},
        "views": {"features": prepared_log / "prepared/features/filter_bank", "size": (36, 64)},
        "limits": {"range_m": (5.0, 50.0)},
    }
    clouds = {"sweeps": 2, "max_points": 30, "sweep_points": 20}
    clip = PretrainDataset(index, clouds=clouds | {"labels": True}, augmentation=still, **options)[(1, 3)]
    row_of = dict(zip(index.tokens(range(len(index))), range(len(index))))
    found = 0
    for number, token in enumerate(clip.tokens):
        frame = index.frame(row_of[token])
        label_of = {tuple(xyz): label for xyz, label in zip(frame.points[:, :3].tolist(), frame.labels)}
        mine = clip.cloud == number
        for xyz, age, label in zip(clip.points[mine, :3].tolist(), clip.age[mine], clip.labels[mine]):
            if age == 0:
                assert int(label) == label_of[tuple(xyz)]
                found += int(label) != 255
            else:
                assert int(label) == 255
    assert found > 30
    assert clip.to("cpu").labels.dtype == torch.int64  # unpacked, as a model sees it
    bare = PretrainDataset(index, clouds=clouds, augmentation=still, **options)[(1, 3)]
    assert bare.labels is None
    assert np.array_equal(bare.points, clip.points)
