"""Labelled samples: whole and in order for evaluation, varied by seed alone for training."""

from __future__ import annotations

import errno
import json
import pickle

import numpy as np
import pytest
import torch

from superflow.clips.batch import collate
from superflow.downstream.fractions import write_tokens
from superflow.downstream.metrics import ConfusionMatrix, class_predictions
from superflow.downstream.segment_data import SegmentDataset
from superflow.downstream.segmentor import Segmentor
from superflow.errors import InputError
from superflow.lidar.limits import Limits

NEAR = {"range_m": [0.0, 12.0]}


def test_evaluation_returns_the_file_as_it_is(log):
    dataset = SegmentDataset(log, frames="b", max_points=50, limits=NEAR)
    assert len(dataset) == 6
    for item in (0, 5):
        batch, frame = dataset[(item, 99)], log.frame(6 + item)
        assert np.array_equal(batch.points.numpy(), frame.points), (
            "no crop, no thinning, no augmentation, same order"
        )
        assert np.array_equal(batch.labels.numpy(), frame.labels)
        assert batch.labels.dtype == torch.int64
        assert batch.tokens == (frame.token,)
        assert batch.num_clouds == 1


def test_training_depends_on_the_seed_alone(log):
    dataset = SegmentDataset(log, train=True, max_points=100, limits=NEAR)
    first, again, other = dataset[(2, 5)], dataset[(2, 5)], dataset[(2, 6)]
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.points, other.points)
    torch.manual_seed(123)
    assert torch.equal(dataset[(2, 5)].points, first.points), "the global generator has no say"


def test_training_crops_thins_and_keeps_labels_with_their_points(log):
    plain = dict(augmentation={"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)})
    dataset = SegmentDataset(log, train=True, max_points=100, limits=NEAR, **plain)
    batch = dataset[(1, 0)]
    frame = log.frame(1)
    label_of = {tuple(point): label for point, label in zip(frame.points.tolist(), frame.labels.tolist())}
    assert len(batch.points) == 100
    assert bool((torch.linalg.vector_norm(batch.points[:, :2], dim=1) <= 12.0).all())
    assert [label_of[tuple(point)] for point in batch.points.tolist()] == batch.labels.tolist()
    whole = SegmentDataset(log, train=True, **plain)[(1, 0)]
    assert np.array_equal(whole.points.numpy(), frame.points)


@pytest.mark.parametrize("viewpoint_m", [0.0, 8.0])
def test_few_labelled_points_survive_thinning_and_many_are_thinned_alike(log, monkeypatch, viewpoint_m):
    def labelled(every: int) -> list[int]:
        def marked(self, frame):
            labels = np.full(len(frame.points), 255, dtype=np.uint8)
            labels[::every] = 1
            return labels

        monkeypatch.setattr(SegmentDataset, "labels_of", marked)
        dataset = SegmentDataset(log, train=True, max_points=100, viewpoint_m=viewpoint_m)
        batches = [dataset[(1, seed)] for seed in range(4)]
        assert all(len(batch.points) == pytest.approx(100, abs=40 if viewpoint_m else 0) for batch in batches)
        assert len({tuple(batch.points[:, 2].tolist()) for batch in batches}) == 4
        return [int((batch.labels == 1).sum()) for batch in batches]

    points = len(log.frame(1).points)
    assert points >= 400
    assert labelled(20) == [-(-points // 20)] * 4, "all stay"
    assert all(0.3 * 100 < number < 0.7 * 100 for number in labelled(2))


def test_a_training_scan_can_be_seen_from_elsewhere(log):
    still = dict(augmentation={"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)})
    dataset = SegmentDataset(log, train=True, max_points=100, viewpoint_m=8.0, **still)
    frame = log.frame(1)
    origin_of = {tuple(point[2:]): (point[:2], label) for point, label in zip(frame.points, frame.labels)}
    assert len(origin_of) == len(frame.points), "z, intensity and ring name a point"
    spots = []
    for seed in range(3):
        batch = dataset[(1, seed)]
        origins = [origin_of[tuple(point[2:])] for point in batch.points.numpy()]
        shifts = np.array([origin for origin, _ in origins]) - batch.points[:, :2].numpy()
        assert np.ptp(shifts, axis=0).max() < 1e-4, "all points move by one spot"
        assert [label for _, label in origins] == batch.labels.tolist()
        assert len(batch.points) == pytest.approx(100, abs=40), "a number drawn around max_points"
        spots.append(shifts[0])
    assert all(0.1 < np.linalg.norm(spot) <= 8.0 for spot in spots)
    assert np.linalg.norm(spots[0] - spots[1]) > 0.1
    with pytest.raises(InputError, match="say to how many points with max_points"):
        SegmentDataset(log, train=True, viewpoint_m=8.0)


def test_samples_collate_and_pickle(log):
    dataset = pickle.loads(pickle.dumps(SegmentDataset(log, train=True, max_points=40)))
    batch = collate([dataset[(0, 1)], dataset[(7, 2)]])
    assert batch.cloud.tolist() == [0] * 40 + [1] * 40
    assert batch.labels.shape == (80,)
    assert batch.tokens == ("token0", "token7")


def test_token_lists_choose_frames(log, tmp_path):
    write_tokens(tmp_path / "list.txt", ["token8", "token1"])
    dataset = SegmentDataset(log, tokens=tmp_path / "list.txt")
    assert dataset.rows.tolist() == [8, 1]
    with pytest.raises(
        InputError, match=r"list.txt: token token8 \(1 in all\) is not among the 6 chosen frames"
    ):
        SegmentDataset(log, frames="a", tokens=tmp_path / "list.txt")
    with pytest.raises(
        InputError, match="the token list: token token1 is listed twice; each frame may count"
    ):
        SegmentDataset(log, tokens=["token1", "token2", "token1"])
    (tmp_path / "list.txt").write_text("# none\n")
    with pytest.raises(
        InputError, match=r"list.txt: names no frame; write one token a line, or leave it out"
    ):
        SegmentDataset(log, tokens=tmp_path / "list.txt")


def test_wrong_choices_are_named(log):
    with pytest.raises(InputError, match="either rows or frames"):
        SegmentDataset(log, rows=[1], frames="a")
    with pytest.raises(InputError, match="chooses no frame"):
        SegmentDataset(log, frames="c")
    with pytest.raises(InputError, match="limits has no 'range'"):
        SegmentDataset(log, limits={"range": [0, 1]})
    with pytest.raises(InputError, match="two ascending numbers"):
        SegmentDataset(log, limits={"range_m": [5, 1]})
    with pytest.raises(IndexError):
        SegmentDataset(log)[12]


def test_frames_without_labels_are_left_out_and_counted(log, caplog):
    log.has_labels = lambda row: row not in (1, 3)
    with caplog.at_level("INFO"):
        dataset = SegmentDataset(log, rows=[0, 1, 2, 3])
    assert dataset.rows.tolist() == [0, 2]
    assert dataset.record()["frames"] == 2
    # `load_predictor` holds a log's against them
    assert dataset.record()["classes"] == list(dataset.class_names)
    assert "2 of 4 chosen frames have no labels and are left out" in caplog.text
    with pytest.raises(InputError, match="none of the 2 chosen frames has labels; choose labelled frames"):
        SegmentDataset(log, rows=[1, 3])


def test_raw_intensity_is_passed_on(log):
    scaled = SegmentDataset(log)[0].points[:, 3]
    raw = SegmentDataset(log, raw_intensity=True)[0].points[:, 3]
    torch.testing.assert_close(raw, scaled * 255)


def test_limits_include_their_borders():
    points = torch.tensor([[3.0, 4.0, 0.0], [3.0, 4.1, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 2.1]])
    limits = Limits(range_m=(0, 5), height_m=(-1, 2))
    assert limits.mask(points).tolist() == [True, False, True, False]
    assert Limits.from_record(limits.record()) == limits
    assert Limits.from_record(Limits().record()) == Limits()
    assert Limits.from_record(None) is None


def test_pseudo_labels_take_the_place_of_a_frames_own(log, tmp_path):
    count = len(log.frame(1).points)
    np.full(count, 2, dtype=np.uint8).tofile(tmp_path / "token1_pseudo.bin")
    plain = dict(augmentation={"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)}, train=True)
    dataset = SegmentDataset(log, frames="a", pseudo_labels=tmp_path, **plain)
    assert dataset[(1, 0)].labels.tolist() == [2] * count
    assert dataset[(2, 0)].labels.tolist() == log.frame(2).labels.tolist()
    assert dataset[(0, 0)].labels.tolist() == log.frame(0).labels.tolist()
    assert dataset.record()["pseudo_labels"] == {"folder": str(tmp_path), "frames": 1}
    bare = log.frame
    log.frame = lambda row, **options: bare(row, **{**options, "labels": False})
    assert dataset[(1, 0)].labels.tolist() == [2] * count, "a frame without labels of its own"


def test_pseudo_labels_that_do_not_fit_are_named(log, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="holds no pseudo-labels of the 6 chosen frames"):
        SegmentDataset(log, frames="a", pseudo_labels=tmp_path, train=True)
    path = tmp_path / "token0_pseudo.bin"
    np.zeros(7, dtype=np.uint8).tofile(path)
    dataset = SegmentDataset(log, frames="a", pseudo_labels=tmp_path, train=True)
    with pytest.raises(InputError, match=r"token0_pseudo.bin: 7 labels for a scan of 880 points; write it"):
        dataset[(0, 0)]
    np.full(880, 4, dtype=np.uint8).tofile(path)
    with pytest.raises(InputError, match=r"token0_pseudo.bin: class 4 in a log of 4 classes"):
        dataset[(0, 0)]

    def broken(*given, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "fromfile", broken)
    for read in (lambda: dataset[(0, 0)], lambda: dataset.require_labelled_points("training")):
        with pytest.raises(InputError, match=r"token0_pseudo.bin: cannot be read \(.*\); check the disk"):
            read()
    with pytest.raises(InputError, match="a model is not judged by predictions"):
        SegmentDataset(log, frames="a", pseudo_labels=tmp_path)


def test_mistake_48_evaluated_points_are_the_labelled_points_of_the_files(log, encoder):
    dataset = SegmentDataset(log, frames="a", limits=NEAR, max_points=100)
    model = Segmentor(encoder, 4, limits=NEAR)
    matrix, outside = ConfusionMatrix(4), 0
    for item in range(len(dataset)):
        batch = dataset[item]
        matrix.update(class_predictions(model.predict(batch)), batch.labels)
        outside += int((~model.limits.mask(batch.points) & (batch.labels != 255)).sum())
    summary = matrix.summary(dataset.class_names)
    assert summary["points"] == sum(int((log.frame(row).labels != 255).sum()) for row in range(6))
    assert summary["no_prediction"] == outside > 0


def test_a_variant_is_for_evaluation():
    with pytest.raises(InputError, match="variant=fog/light: corrupted scans are to be judged on"):
        SegmentDataset("nowhere", train=True, variant="fog/light")


def test_pseudo_labels_of_other_classes_or_of_a_stopped_job_are_told(log, tmp_path, caplog):
    """As many classes in another order would be learned under each other's names."""
    np.full(7, 2, dtype=np.uint8).tofile(tmp_path / "token0_pseudo.bin")
    (tmp_path / ".done.jsonl").touch()
    SegmentDataset(log, frames="a", pseudo_labels=tmp_path, train=True)
    assert "the job that writes these pseudo-labels was stopped before its end" in caplog.text
    names = list(log.card.classes)
    for known in (names, None):
        (tmp_path / "pseudo_labels.json").write_text(json.dumps({"class_names": known}))
        SegmentDataset(log, frames="a", pseudo_labels=tmp_path, train=True)
    said = rf"are of other classes than this log has \(number 0 is {names[1]}, here {names[0]}\); write them"
    (tmp_path / "pseudo_labels.json").write_text(
        json.dumps({"class_names": [names[1], names[0], *names[2:]]})
    )
    with pytest.raises(InputError, match=said):
        SegmentDataset(log, frames="a", pseudo_labels=tmp_path, train=True)
