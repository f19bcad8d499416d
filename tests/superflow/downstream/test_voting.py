"""Temporal voting against dictionaries and loops, its borders, its guards and its control."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from superflow.downstream.features import Scan, read_scan
from superflow.downstream.heads import LinearProbe
from superflow.downstream.pseudo_labels import PseudoLabelFiles
from superflow.downstream.segment_data import SegmentDataset
from superflow.downstream.segmentor import Segmentor
from superflow.downstream.vote_log import (
    evaluate_voting,
    head_predictor,
    moving_classes,
    segmentor_predictor,
)
from superflow.downstream.voting import (
    Ballot,
    VotingOptions,
    confidence_weights,
    is_beside,
    neighbour_rows,
    vote,
)
from superflow.errors import InputError
from superflow.geometry import invert, make_transform

CLASSES = 4


def noisy_ballot(log, row, seed=0, sharpness=3.0, unseen=0.0) -> Ballot:
    """Random predictions; a share ``unseen`` of the points has none."""
    scan = read_scan(log, row)
    generator = torch.Generator().manual_seed(seed + row)
    logits = torch.randn(len(scan.points), CLASSES, generator=generator) * sharpness
    seen = torch.rand(len(logits), generator=generator) >= unseen
    return Ballot(scan.points[:, :3], logits.softmax(1) * seen[:, None], scan.lidar_to_world)


def slow_vote(own, others, options):
    """Point after point, with a dictionary of cells of the world."""

    def cell(ballot, xyz):
        world = ballot.lidar_to_world @ np.append(xyz, 1.0)
        return tuple(np.floor(world[:3] / options.voxel_m).astype(int))

    voters = {0: own} if options.same_frame else others
    boxes: dict[tuple, list] = {}
    for offset, ballot in voters.items():
        for xyz, p in zip(ballot.xyz.double().numpy(), ballot.probabilities.double().numpy()):
            if not p.any():
                continue
            c = {
                "one": 1.0,
                "max": p.max(),
                "entropy": 1 + sum(x * math.log(x) for x in p if x) / math.log(len(p)),
            }
            weight = options.decay ** abs(offset) * c[options.confidence]
            boxes.setdefault(cell(ballot, xyz), []).append((weight, p))
    rows, votes = [], []
    for xyz, p in zip(own.xyz.double().numpy(), own.probabilities.double().numpy()):
        here = boxes.get(cell(own, xyz), [])
        votes.append(len(here))
        total = sum(weight for weight, _ in here)
        heeded = len(here) >= options.min_votes and total > 0
        if heeded:
            mean = sum(weight * q for weight, q in here) / total
            things = options.thing_classes
            agreed = not p.any() or (int(p.argmax()) in things) == (int(mean.argmax()) in things)
            heeded = not things or agreed
        mixed = options.alpha * p + (1 - options.alpha) * mean if heeded else p
        rows.append(mixed / mixed.sum() if heeded else p)
    return np.array(rows), votes


@pytest.mark.parametrize(
    "options",
    [
        VotingOptions(voxel_m=0.5),
        VotingOptions.window(2, causal=True, voxel_m=0.5, confidence="max", alpha=0.3),
        VotingOptions.window(1, voxel_m=1.0, confidence="entropy", decay=0.5, min_votes=3),
        VotingOptions(voxel_m=0.7, thing_classes=(2, 3)),
        VotingOptions(voxel_m=0.5).control(),
    ],
)
@pytest.mark.parametrize("unseen", [0.0, 0.3])
def test_matches_a_dictionary_loop(log, options, unseen):
    own = noisy_ballot(log, 2, unseen=unseen)
    others = {
        offset: noisy_ballot(log, row, unseen=unseen)
        for offset, row in neighbour_rows(log, 2, options.offsets).items()
    }
    got = vote(own, others, options)
    rows, votes = slow_vote(own, others, options)
    assert got.votes.tolist() == votes
    np.testing.assert_allclose(got.probabilities.numpy(), rows, atol=2e-6)
    assert 0 < int(got.heeded.sum()) < len(rows)
    unheeded = ~got.heeded
    assert torch.equal(got.probabilities[unheeded], own.probabilities[unheeded])


def test_window_is_symmetric_or_causal():
    assert VotingOptions.window(2).offsets == (-2, -1, 1, 2)
    assert VotingOptions.window(3, causal=True).offsets == (-3, -2, -1)


def test_a_sweep_votes_unless_a_labelled_frame_is_next_to_it(prepared_scans):
    index = prepared_scans
    before, key, after = (int(row) for row in index.rows(["scene-0001"])[:3])
    assert is_beside(index, before + 3, {before})
    assert is_beside(index, before + 3, {key})
    assert not is_beside(index, before + 3, {after})
    assert not is_beside(index, key, {before})
    asked: list[int] = []

    def predict(scan):
        asked.append(len(scan.points))
        return torch.full((len(scan.points), len(index.card.classes)), 1 / len(index.card.classes))

    variants = {
        "sweeps": VotingOptions(offsets=(-2, -1, 1, 2), sweeps=True, voxel_m=0.5, min_votes=1),
        "keys": VotingOptions(offsets=(-1, 1), voxel_m=0.5, min_votes=1),
    }
    result = evaluate_voting(index, [key], predict, variants, labelled_rows=[])
    assert len(asked) == 7, "the scan, four sweeps and two key frames, each predicted once"
    assert result["left_out"] == 0
    assert result["variants"]["sweeps"]["coverage"] > 0
    asked.clear()
    result = evaluate_voting(index, [key], predict, variants, labelled_rows=[before])
    assert len(asked) == 4, "neither the labelled frame nor the two sweeps after it"
    assert result["left_out"] == 3


def test_sweeps_beside_evaluated_frames_give_no_pseudo_labels(prepared_scans, tmp_path):
    index = prepared_scans
    before, key = (int(row) for row in index.rows(["scene-0001"])[:2])
    asked: list[int] = []

    def predict(scan):
        asked.append(len(scan.points))
        return torch.full((len(scan.points), len(index.card.classes)), 1 / len(index.card.classes))

    options = VotingOptions(offsets=(-1, 1), sweeps=True)
    PseudoLabelFiles(index, [key], tmp_path, options, evaluation_rows=[before]).write(predict)
    assert len(asked) == 2, "the scan and the sweep after it"


def test_mistake_11_poses_compose_to_the_identity_and_static_voxels_meet(log):
    a, b = (log.frame(row).lidar_to_world for row in (0, 5))
    a_to_b, b_to_a = invert(b) @ a, invert(a) @ b
    np.testing.assert_allclose(a_to_b @ b_to_a, np.eye(4), atol=1e-12)
    first, last = read_scan(log, 0), read_scan(log, 5)

    def overlap(moved):
        cells = [
            set(map(tuple, np.floor(xyz / 0.2).astype(int).tolist()))
            for xyz in (moved, last.points[:, :3].numpy())
        ]
        return len(cells[0] & cells[1]) / len(cells[0] | cells[1])

    static = torch.cat([first.points[:, :3], torch.ones(len(first.points), 1)], dim=1).double().numpy()
    assert overlap((static @ a_to_b.T)[:, :3]) > 0.7
    assert overlap(static[:, :3]) < 0.2, "left in its own frame a neighbour votes for the wrong places"
    assert overlap((static @ b_to_a.T)[:, :3]) < 0.2, "the wrong way round"


def test_a_perfect_neighbourhood_corrects_a_noisy_scan(log):
    options = VotingOptions(voxel_m=0.3, alpha=0.3, min_votes=1)
    own = noisy_ballot(log, 2, sharpness=0.5)
    others = {}
    for offset, row in neighbour_rows(log, 2, options.offsets).items():
        scan = read_scan(log, row)
        truth = torch.nn.functional.one_hot(scan.labels.clamp(max=3), CLASSES).float()
        truth[scan.labels == 255] = 0
        others[offset] = Ballot(scan.points[:, :3], truth, scan.lidar_to_world)
    labels = read_scan(log, 2).labels
    static = labels < 2
    before = (own.probabilities.argmax(1) == labels)[static].float().mean()
    after = (vote(own, others, options).probabilities.argmax(1) == labels)[static].float().mean()
    assert float(before) < 0.4
    assert float(after) > 0.9


def test_points_without_prediction_do_not_vote():
    xyz = torch.zeros(3, 3)
    own = Ballot(xyz, torch.tensor([[0.5, 0.5]] * 3), np.eye(4))
    silent = Ballot(xyz, torch.zeros(3, 2), np.eye(4))
    result = vote(own, {1: silent}, VotingOptions())
    assert result.votes.tolist() == [0, 0, 0]
    assert torch.equal(result.probabilities, own.probabilities)


def test_confidence_weights():
    rows = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0]])
    assert confidence_weights(rows, "one").tolist() == [1, 1, 0]
    assert confidence_weights(rows, "max").tolist() == [1, 0.25, 0]
    torch.testing.assert_close(confidence_weights(rows, "entropy"), torch.tensor([1.0, 0, 0]))


def test_moving_things_do_not_colour_the_road_behind_them():
    xyz = torch.zeros(4, 3)
    road = Ballot(xyz, torch.tensor([[0.6, 0.4]] * 4), np.eye(4))
    car = Ballot(xyz, torch.tensor([[0.1, 0.9]] * 4), np.eye(4))
    free = vote(road, {-1: car}, VotingOptions())
    guarded = vote(road, {-1: car}, VotingOptions(thing_classes=(1,)))
    assert free.probabilities.argmax(1).tolist() == [1] * 4
    assert torch.equal(guarded.probabilities, road.probabilities)
    assert not guarded.heeded.any()


@pytest.mark.parametrize("things", [(0,), (1,), (0, 1), ()])
@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize("same_frame", [False, True])
def test_a_point_without_a_prediction_heeds_any_vote(things, winner, same_frame):
    """Its row of zeros is no vote for class 0, which the guard could hold against the others."""
    seen = torch.eye(2)[[winner] * 3]
    own = Ballot(torch.zeros(4, 3), torch.cat([torch.zeros(1, 2), seen]), np.eye(4))
    others = {-1: Ballot(torch.zeros(3, 3), seen, np.eye(4))}
    voted = vote(own, others, VotingOptions(thing_classes=things, same_frame=same_frame))
    assert voted.heeded.all()
    assert torch.equal(voted.probabilities, torch.eye(2)[[winner] * 4])


def test_the_control_hears_its_own_points_only(log):
    own, other = noisy_ballot(log, 2), noisy_ballot(log, 3)
    options = VotingOptions(voxel_m=0.5).control()
    assert torch.equal(vote(own, {1: other}, options).probabilities, vote(own, {}, options).probabilities)


@pytest.mark.parametrize("low", [-4.0, 3.0, torch.nan, torch.inf])
def test_what_is_no_probability_is_refused(low):
    """Logits would be mixed with probabilities, and one NaN goes to every point of its voxel."""
    rows = torch.full((4, 2), 0.5)
    rows[2, 1] = low
    with pytest.raises(ValueError, match=r"^probabilities run from .*; give those of a softmax, in \[0, 1\]"):
        Ballot(torch.zeros(4, 3), rows, np.eye(4))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int16])
def test_points_of_any_type_fall_into_their_voxels(kind):
    xyz = torch.tensor([[1, 2, 0], [3, -2, 0], [1, 2, 0]])
    rows = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    voted = [
        vote(
            Ballot(of.to(xyz), rows, np.eye(4)), {1: Ballot(of, rows, np.eye(4))}, VotingOptions(offsets=(1,))
        )
        for of in (xyz.float(), xyz.to(kind))
    ]
    assert torch.equal(voted[0].probabilities, voted[1].probabilities)
    assert voted[1].heeded.tolist() == [True, False, True]


def test_classes_and_frames_that_there_are_not_are_refused():
    own = Ballot(torch.zeros(2, 3), torch.tensor([[0.6, 0.4]] * 2), np.eye(4))
    for things in ((2,), (-1,)):
        with pytest.raises(ValueError, match=r"thing_classes .* are not of 0\.\.1"):
            vote(own, {1: own}, VotingOptions(thing_classes=things))
    with pytest.raises(ValueError, match=r"offsets \(1.5,\) must be whole numbers of frames"):
        VotingOptions(offsets=(1.5,))


def test_labelled_scans_are_refused_unless_asked_for():
    xyz = torch.zeros(2, 3)
    own = Ballot(xyz, torch.tensor([[0.6, 0.4]] * 2), np.eye(4))
    truth = Ballot(xyz, torch.tensor([[0.0, 1.0]] * 2), np.eye(4), from_labels=True)
    with pytest.raises(ValueError, match="offset 1 carries labels; labelled frames may not vote"):
        vote(own, {1: truth}, VotingOptions())
    allowed = vote(own, {1: truth}, VotingOptions(), labels_may_vote=True)
    assert allowed.probabilities.argmax(1).tolist() == [1, 1]
    for weight in (0.5, math.nan):
        with pytest.raises(ValueError, match="weighs at least as much"):
            vote(own, {1: truth}, VotingOptions(), labels_may_vote=True, label_weight=weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offsets": (-1, 0)}, "other than 0"),
        ({"alpha": 1.5}, "alpha 1.5"),
        ({"decay": 0.0}, "decay 0.0"),
        ({"min_votes": 0}, "min_votes 0"),
        ({"confidence": "logit"}, "choose"),
        ({"tracks": True}, "tracks is set without thing_classes"),
        ({"tracks": True, "sweeps": True, "thing_classes": (1,)}, "only key frames have boxes"),
    ],
)
def test_wrong_options_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        VotingOptions(**settings)


def test_empty_scans():
    nothing = Ballot(torch.zeros(0, 3), torch.zeros(0, 2), np.eye(4))
    something = Ballot(torch.zeros(2, 3), torch.full((2, 2), 0.5), np.eye(4))
    assert vote(nothing, {1: something}, VotingOptions()).probabilities.shape == (0, 2)
    assert vote(something, {1: nothing}, VotingOptions()).votes.tolist() == [0, 0]
    with pytest.raises(ValueError, match="2 rows of probabilities for 3 points"):
        Ballot(torch.zeros(3, 3), torch.zeros(2, 2), np.eye(4))


@pytest.mark.parametrize(
    ("xyz", "rows", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3), r"xyz has shape \(2, 2\)"),
        (torch.zeros(2, 3), torch.zeros(2), r"probabilities \(2,\); give"),
        (torch.zeros(2, 3), torch.zeros(2, 3).half(), "are torch.float16; give them as torch.float32"),
    ],
)
def test_what_compiled_code_would_read_beyond_is_no_ballot(xyz, rows, message):
    with pytest.raises(ValueError, match=message):
        Ballot(xyz, rows, np.eye(4))


def test_scans_with_other_classes_do_not_vote():
    """They would be added beyond the rows of the sums, or as if their classes were the first ones."""
    own, more = (Ballot(torch.zeros(2, 3), torch.full((2, n), 1 / n), np.eye(4)) for n in (3, 5))
    for here, there in ((own, more), (more, own)):
        with pytest.raises(ValueError, match=r"the scan at offset -1 has \d classes"):
            vote(here, {-1: there}, VotingOptions())


# ---- along a log ----------------------------------------------------------------------------------------------


class NoisyOracle:
    """Right for most points; remembers which clouds it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, scan: Scan) -> torch.Tensor:
        self.calls += 1
        generator = torch.Generator().manual_seed(int(scan.points[:, 3].sum() * 1000) % 2**31)
        height = scan.points[:, 2] + 1.8
        guess = torch.where(height < 0.15, 0, torch.where(scan.world_y() > 5.5, 1, 2))
        wrong = torch.rand(len(guess), generator=generator) < 0.3
        guess = torch.where(wrong, torch.randint(CLASSES, guess.shape, generator=generator), guess)
        return torch.nn.functional.one_hot(guess, CLASSES).float() * 0.7 + 0.075


@pytest.fixture(autouse=True)
def world_y(monkeypatch):
    monkeypatch.setattr(Scan, "world_y", lambda scan: torch.from_numpy(scan.world[:, 1]), raising=False)


def test_voting_beats_its_control_on_a_static_street(log):
    oracle = NoisyOracle()
    variants = {
        "offline": VotingOptions(voxel_m=0.2, min_votes=1, alpha=0.2),
        "causal": VotingOptions.window(2, causal=True),
    }
    result = evaluate_voting(log, [2, 3, 4], oracle, variants, labelled_rows=[7, 8])
    offline = result["variants"]["offline"]
    assert oracle.calls == 6, "frames 0 to 5, each predicted once"
    assert offline["scores"]["miou"] > offline["control"]["miou"]
    assert offline["scores"]["miou"] > result["unvoted"]["miou"] + 5
    assert offline["coverage"] > 60
    assert offline["static"]["voted"] > offline["static"]["unvoted"]
    assert set(offline["moving"]) == {"unvoted", "control", "voted"}
    assert result["left_out"] == 0
    assert result["unvoted"]["points"] == offline["scores"]["points"] == offline["control"]["points"]
    json.dumps(result)


def test_labelled_frames_never_vote_for_evaluated_ones(log):
    options = {"voted": VotingOptions(voxel_m=0.3, min_votes=1)}
    asked: list[int] = []
    plain = log.frame

    def spy(row, **rest):
        asked.append(int(row))
        return plain(row, **rest)

    log.frame = spy
    result = evaluate_voting(log, [3], NoisyOracle(), options, labelled_rows=[2, 1])
    assert result["left_out"] == 2
    assert not {1, 2} & set(asked), "not even read"
    with pytest.raises(ValueError, match="row 3 is evaluated although the model was trained on its labels"):
        evaluate_voting(log, [3], NoisyOracle(), options, labelled_rows=[3])


def test_pseudo_labels_are_written_with_their_provenance(log, tmp_path):
    options = VotingOptions(voxel_m=0.3, alpha=0.2, min_votes=1)
    frames = {"evaluation_rows": [10, 11], "labelled_rows": [0, 3]}
    files = PseudoLabelFiles(log, [1, 2, 4], tmp_path, options, **frames, label_weight=3.0, threshold=0.75)
    record = files.write(NoisyOracle(), record={"model": "oracle"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pseudo_labels.json",
        "token1_pseudo.bin",
        "token2_pseudo.bin",
        "token4_pseudo.bin",
    ]
    labels = np.fromfile(tmp_path / "token2_pseudo.bin", dtype=np.uint8)
    frame = log.frame(2)
    assert len(labels) == len(frame.points)
    kept = (labels != 255) & (frame.labels != 255)
    assert (labels[kept] == frame.labels[kept]).mean() > 0.9
    assert json.loads((tmp_path / "pseudo_labels.json").read_text()) == json.loads(json.dumps(record))
    assert record["model"] == "oracle"
    assert record["labelled_frames"] == 2
    assert record["quality"]["points"] == 3 * 880
    assert record["quality"]["accuracy"] > 90
    assert record["nearest_labelled_scan"]["kept"] > 50
    assert record["options"]["voxel_m"] == 0.3


def test_pseudo_labels_predict_each_scan_once(log, tmp_path):
    predicted = []

    def predict(scan):
        predicted.append(scan.source.token)
        return NoisyOracle()(scan)

    rows = [1, 2, 3, 4, 5, 6]
    files = PseudoLabelFiles(log, rows, tmp_path, VotingOptions(), evaluation_rows=[10], labelled_rows=[3])
    files.write(predict)
    # the neighbours, too; the labelled one votes with its labels, and is predicted to be labelled itself
    assert sorted(predicted) == [f"token{row}" for row in range(9)]


def test_evaluation_frames_get_no_pseudo_labels_and_lend_none(log, tmp_path):
    with pytest.raises(InputError, match="frame token2 is evaluated and also given pseudo-labels"):
        PseudoLabelFiles(log, [1, 2], tmp_path, VotingOptions(), evaluation_rows=[2])
    with pytest.raises(InputError, match="frame token3 is evaluated and also voting with its labels"):
        PseudoLabelFiles(log, [1], tmp_path, VotingOptions(), evaluation_rows=[3], labelled_rows=[3])
    assert list(tmp_path.iterdir()) == []


def test_predictors_of_models(log, encoder):
    scan = read_scan(log, 0)
    model = Segmentor(encoder, CLASSES)
    got = segmentor_predictor(model)(scan)
    assert got.shape == (len(scan.points), CLASSES)
    torch.testing.assert_close(got.sum(1), torch.ones(len(got)))
    raw = SegmentDataset(log, frames="a", raw_intensity=True)[0]
    torch.testing.assert_close(segmentor_predictor(model, full_intensity=255.0)(scan), model.predict(raw))

    class Heights:
        channels = 1

        def __call__(self, points, rows=None):
            return points[:, 2:3]

    head = LinearProbe(torch.tensor([[1.0, -1.0]]), torch.zeros(2))
    torch.testing.assert_close(
        head_predictor(Heights(), head)(scan)[:, 0], torch.sigmoid(2 * scan.points[:, 2])
    )


def test_moving_classes_are_known_by_name():
    assert moving_classes(("road", "car", "Pedestrian", "vegetation")) == (1, 2)


def test_poses_are_used_in_the_right_direction():
    """A neighbour one metre ahead sees the same post one metre nearer."""
    post_from_own = torch.tensor([[5.05, 0.05, 0.05]] * 2)
    post_from_ahead = torch.tensor([[4.05, 0.05, 0.05]] * 2)
    own = Ballot(post_from_own, torch.tensor([[0.6, 0.4]] * 2), np.eye(4))
    ahead = Ballot(post_from_ahead, torch.tensor([[0.0, 1.0]] * 2), make_transform((1, 0, 0, 0), (1.0, 0, 0)))
    assert vote(own, {1: ahead}, VotingOptions()).votes.tolist() == [2, 2]
