"""Probes: their parts against slow twins, and the whole of them on a made log."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from superflow import together
from superflow.downstream import evaluation
from superflow.downstream.evaluation import evaluate_heads, lookup_scores
from superflow.downstream.features import (
    EncoderFeatures,
    RawCoordinates,
    draw_points,
    read_scan,
    sample_features,
)
from superflow.downstream.heads import KnnProbe, fit_knn_probe, fit_linear_probe
from superflow.downstream.places import seen_voxels
from superflow.downstream.probe import ProbeOptions, probe
from superflow.downstream.recalibration import recalibrate_batch_norm
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import load_encoder
from superflow.lidar.limits import Limits
from superflow.protocol import PROTOCOL_FIELDS, check_protocol, token_hash

FAST = ProbeOptions(max_points=1500, iterations=30, recalibrate_frames=3, knn_points=100)


def blobs(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    centers = torch.tensor([[0.0, 0, 0, 0], [2, 1, 0, 0], [0, 2, 5, 0]])
    return centers[labels] + torch.randn(count, 4, generator=generator), labels


# ---- features -------------------------------------------------------------------------------------------------


def test_encoder_features_are_those_of_the_encoder(encoder, log):
    points = read_scan(log, 0).points
    source = EncoderFeatures(encoder.train())
    want = encoder.eval().point_features(points, torch.zeros(len(points), dtype=torch.int64), 1).detach()
    encoder.train()
    torch.testing.assert_close(source(points), want)
    torch.testing.assert_close(source(points, torch.tensor([5, 2])), want[[5, 2]])
    assert encoder.training
    assert source(points[:0]).shape == (0, encoder.out_channels)


def test_chunks_are_encoded_apart_and_put_back_in_order(encoder, log):
    points = read_scan(log, 0).points
    source = EncoderFeatures(encoder.eval(), chunk_points=250, seed=3)
    order, cloud, num_clouds = source._split(points)
    assert num_clouds == 4
    assert bool((torch.bincount(cloud) <= 250).all())
    want = torch.zeros(len(points), encoder.out_channels)
    for c in range(num_clouds):
        rows = order[cloud == c]
        want[rows] = encoder.point_features(
            points[rows], torch.zeros(len(rows), dtype=torch.int64), 1
        ).detach()
    torch.testing.assert_close(source(points), want, rtol=1e-3, atol=1e-4)


def test_an_encoder_trained_on_raw_intensity_gets_it(make_encoder, log, tmp_path):
    save_backbone(make_encoder(), tmp_path / "raw.safetensors", BackboneCard("raw", intensity="0..255"))
    encoder, plain = load_encoder(tmp_path / "raw.safetensors"), make_encoder()
    points = read_scan(log, 0).points
    raw = points.clone()
    raw[:, 3] *= 255
    torch.testing.assert_close(EncoderFeatures(encoder)(points), EncoderFeatures(plain)(raw))
    seen, expected = recalibrate_batch_norm(encoder, [points]), recalibrate_batch_norm(plain, [raw])
    for name, value in seen.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])
    torch.testing.assert_close(EncoderFeatures(seen)(points), EncoderFeatures(expected)(raw))


def test_raw_coordinates():
    points = torch.tensor([[3.0, 4.0, -1.0, 0.5, 9.0]])
    assert RawCoordinates()(points).tolist() == [[3, 4, -1, 5, 0.5, 9, 16, 1, 25, 0.25]]
    assert RawCoordinates()(points.repeat(3, 1), torch.tensor([1])).shape == (1, 10)


def test_raw_coordinates_of_points_without_intensity():
    points = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [1.0, 2.0, 3.0, 0.0]])
    one, other = RawCoordinates()(points)
    assert torch.equal(one, other)


def test_recalibration_is_the_plain_average_over_clouds(encoder, log):
    clouds = [read_scan(log, row).points for row in (0, 3, 7)]
    first = next(m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm1d))
    inputs = []
    hook = first.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    for points in clouds:
        encoder.eval()(points, torch.zeros(len(points), dtype=torch.int64), 1)
    hook.remove()
    before = [buffer.clone() for buffer in encoder.buffers()]
    fresh = recalibrate_batch_norm(encoder, clouds)
    norm = next(m for m in fresh.modules() if isinstance(m, torch.nn.BatchNorm1d))
    torch.testing.assert_close(
        norm.running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        norm.running_var, torch.stack([x.var(0) for x in inputs]).mean(0), rtol=1e-4, atol=1e-5
    )
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.buffers())), (
        "the given encoder stays as it was"
    )
    assert norm.momentum == first.momentum
    assert not fresh.training
    with pytest.raises(ValueError, match="no cloud"):
        recalibrate_batch_norm(encoder, [])


def test_statistics_are_not_taken_from_clouds_without_any(encoder):
    """Layers that never saw two voxels would keep the mean 0 and the variance 1."""
    points = torch.tensor([[1.0, 1.0, 0.5, 0.2], [1.0, 1.0, 0.5, 0.2]])
    with pytest.raises(InputError, match="the 2 clouds to take batch-norm statistics from are too small"):
        recalibrate_batch_norm(encoder, [points, points[:0]])


def test_samples_are_seeded_labelled_and_within_the_limits(log):
    options = dict(max_points=300, limits=Limits(range_m=(0, 15)))
    sample = sample_features(RawCoordinates(), log, [0, 1, 7], **options)
    again = sample_features(RawCoordinates(), log, [7, 1, 0], **options)
    assert torch.bincount(sample.row).tolist()[:2] == [100, 100]
    assert bool((sample.labels != 255).all())
    assert bool((sample.features[:, 3] <= 15).all())
    torch.testing.assert_close(sample.of_rows([7]).features, again.of_rows([7]).features)
    other = sample_features(RawCoordinates(), log, [0, 1, 7], seed=1, **options)
    assert not torch.equal(sample.features, other.features)


def test_augmented_samples_are_the_same_points_under_a_draw_of_their_own(log):
    options = dict(max_points=300, seed=5)
    plain = sample_features(RawCoordinates(), log, [0, 1], **options)
    still = dict(rotation_rad=(0, 0), flip=0, scale=(1, 1))
    torch.testing.assert_close(
        sample_features(RawCoordinates(), log, [0, 1], augmentation=still, **options).features, plain.features
    )
    turned = sample_features(RawCoordinates(), log, [0, 1], augmentation={}, **options)
    assert torch.equal(turned.labels, plain.labels)
    assert torch.equal(turned.row, plain.row)
    factors = []
    for row in (0, 1):  # range and height are scaled alike, whatever the turn; intensity stays
        before, after = plain.of_rows([row]).features, turned.of_rows([row]).features
        scale = after[:, 3] / before[:, 3]
        torch.testing.assert_close(scale, scale[:1].expand_as(scale), rtol=1e-4, atol=0)
        torch.testing.assert_close(after[:, 2], before[:, 2] * scale[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after[:, 4], before[:, 4])
        assert not torch.allclose(after[:, 0], before[:, 0] * scale[0], atol=0.1)
        factors.append(float(scale[0]))
    assert factors[0] != factors[1]
    assert all(0.95 <= factor <= 1.05 for factor in factors)
    again = sample_features(RawCoordinates(), log, [1, 0], augmentation={}, **options)
    torch.testing.assert_close(again.of_rows([1]).features, turned.of_rows([1]).features)


def test_balanced_draws_even_out_the_classes():
    labels = torch.tensor([0] * 9000 + [1] * 1000)
    rows = torch.arange(10_000)
    plain = labels[draw_points(labels, rows, 1000, seed=(0, 0))].float().mean()
    even = labels[draw_points(labels, rows, 1000, balance=1.0, seed=(0, 0))].float().mean()
    assert float(plain) == pytest.approx(0.1, abs=0.03)
    assert float(even) == pytest.approx(0.5, abs=0.06)
    assert draw_points(labels, rows, 20_000).tolist() == rows.tolist()


# ---- heads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weights", ["none", "inverse_root"])
def test_linear_probe_is_at_the_optimum_of_its_definition(class_weights):
    features, labels = blobs()
    features = features * torch.tensor([1.0, 100.0, 0.01, 5.0]) + 7.0
    decay = 1e-2
    head = fit_linear_probe(
        features, labels, 4, weight_decay=decay, class_weights=class_weights, iterations=500
    )
    mean, scale = features.double().mean(0), features.double().std(0, correction=0)
    weight = (head.weight.double() * scale[:, None]).requires_grad_()
    bias = (head.bias.double() + mean @ head.weight.double()).requires_grad_()
    inputs = (features.double() - mean) / scale
    weights = torch.ones(4).double()
    if class_weights == "inverse_root":
        counts = torch.bincount(labels, minlength=4).double()
        weights = counts.clamp(min=1) ** -0.5
    losses = F.cross_entropy(inputs @ weight + bias, labels, reduction="none")
    total = (losses * weights[labels]).sum() / weights[labels].sum() + decay / 2 * weight.square().sum()
    total.backward()
    assert float(weight.grad.abs().max()) < 1e-3
    assert float(bias.grad.abs().max()) < 1e-3
    accuracy = (head.probabilities(features).argmax(1) == labels).float().mean()
    assert float(accuracy) > 0.85


def test_linear_probe_does_not_depend_on_scale_or_start():
    features, labels = blobs()
    plain = fit_linear_probe(features, labels, 3, iterations=300)
    scaled = fit_linear_probe(features * 1000 - 5, labels, 3, iterations=300)
    started = fit_linear_probe(features, labels, 3, iterations=300, start=scaled)
    torch.testing.assert_close(
        plain.probabilities(features), scaled.probabilities(features * 1000 - 5), atol=5e-3, rtol=0
    )
    torch.testing.assert_close(
        plain.probabilities(features), started.probabilities(features), atol=5e-3, rtol=0
    )
    with pytest.raises(ValueError, match="choose one of none, inverse_root"):
        fit_linear_probe(features, labels, 3, class_weights="sqrt")


@pytest.mark.parametrize("constant", [0.1, 1.0, 100.3, 30000.7])
def test_a_feature_that_is_always_the_same_changes_nothing(constant):
    features, labels = blobs()
    plain = fit_linear_probe(features, labels, 3)
    wider = torch.cat([features, torch.full((len(features), 1), constant)], 1)
    head = fit_linear_probe(wider, labels, 3)
    torch.testing.assert_close(head.probabilities(wider), plain.probabilities(features), atol=1e-5, rtol=0)


def test_knn_matches_a_loop():
    bank, labels = blobs(60)
    queries, _ = blobs(25, seed=1)
    head = KnnProbe(F.normalize(bank, dim=1), labels, 3, k=5, chunk=7)
    got = head.probabilities(queries)
    assert got.shape == (25, 3)
    torch.testing.assert_close(got.sum(1), torch.ones(25))
    for row in range(25):
        cosine = [float(F.cosine_similarity(queries[row], bank[j], dim=0)) for j in range(60)]
        nearest = sorted(range(60), key=lambda j: -cosine[j])[:5]
        votes = Counter(int(labels[j]) for j in nearest)
        similar = {c: sum(cosine[j] for j in nearest if labels[j] == c) for c in votes}
        assert int(got[row].argmax()) == max(votes, key=lambda c: (votes[c], similar[c]))


def test_knn_bank_holds_at_most_so_many_of_a_class():
    features, labels = blobs()
    head = fit_knn_probe(features, labels, 4, per_class=20)
    assert torch.bincount(head.labels, minlength=4).tolist() == [20, 20, 20, 0]
    assert torch.equal(head.bank, fit_knn_probe(features, labels, 4, per_class=20).bank)
    few = KnnProbe(head.bank[:3], head.labels[:3], 4, k=15)
    assert few.probabilities(features[:2]).shape == (2, 4)


# ---- the whole ------------------------------------------------------------------------------------------------


def test_probe_counts_every_labelled_point(log, encoder):
    result = probe(EncoderFeatures(encoder), log, [0, 1, 2, 3], [4, 5], held_out_rows=[3], options=FAST)
    labelled = sum(int((log.frame(row).labels != 255).sum()) for row in (4, 5))
    seen = seen_voxels(log, [0, 1, 2, 3], 0.5)
    new = sum(
        int((~seen.contains(scan.world) & (scan.labels != 255).numpy()).sum())
        for scan in (read_scan(log, 4), read_scan(log, 5))
    )
    assert result.scores["linear"]["points"] == labelled
    assert result.scores["linear, new places"]["points"] == new > 0
    assert result.scores["knn"]["points"] == 200
    assert result.scores["linear"]["absent"] == ["tree"]
    assert result.scores["linear"]["miou"] > 45
    assert len(result.tried) == 6
    assert result.chosen in result.tried
    assert result.chosen["miou"] == max(trial["miou"] for trial in result.tried)


def test_an_augmented_probe_cannot_lean_on_directions(log, monkeypatch):
    """Classes that only the direction x tells: known to a head that was fitted on scans as they are, else not."""

    def by_side(index, row, **options):
        scan = read_scan(index, row, **options)
        return dataclasses.replace(scan, labels=(scan.points[:, 0] > 0).long())

    for module in ("features", "evaluation"):
        monkeypatch.setattr(f"superflow.downstream.{module}.read_scan", by_side)
    result = probe(RawCoordinates(), log, list(range(8)), [8, 9], options=FAST)
    # eight turns do not fill the circle: what is left of the direction is luck
    assert result.scores["linear, not augmented"]["accuracy"] > 97
    assert result.scores["linear"]["accuracy"] < 90
    assert result.protocol["augmentation"].startswith("turns, flips, scale")
    plain = probe(
        RawCoordinates(),
        log,
        list(range(8)),
        [8, 9],
        options=dataclasses.replace(FAST, augmentation=None),
    )
    assert plain.scores["linear"] == result.scores["linear, not augmented"]
    assert "linear, not augmented" not in plain.scores
    assert plain.protocol["augmentation"] == "none"


def test_probe_is_deterministic_and_leaves_the_encoder_alone(log, encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, second = (probe(EncoderFeatures(encoder), log, [0, 1, 2], [5], options=FAST) for _ in range(2))
    assert first.scores == second.scores
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_probe_is_the_same_with_a_core_for_each_of_two_threads(log, encoder, monkeypatch):
    found = []
    for cores in (1, 64):
        monkeypatch.setattr(together, "usable_cores", lambda cores=cores: cores)
        modes = [part.training for part in encoder.modules()]
        result = probe(EncoderFeatures(encoder), log, [0, 1, 2], [5], options=FAST)
        found.append(result.record() | {"seconds": None})
        assert [part.training for part in encoder.modules()] == modes
    assert found[0] == found[1]


def test_mistake_50_results_carry_their_protocol(log, encoder):
    given = {"pretraining": {"method": "none"}, "seed": 4}
    record = probe(EncoderFeatures(encoder), log, [0, 1, 2], [5], options=FAST, protocol=given).record()
    json.dumps(record)
    check_protocol(record["protocol"])
    assert record["protocol"]["dataset"] == "made"
    assert record["protocol"]["real"] is False
    assert record["protocol"]["seed"] == 4
    assert record["protocol"]["eval_hash"] == token_hash(["token5"])
    assert record["protocol"]["feature_channels"] == encoder.out_channels
    assert "3 unlabelled training frames" in record["protocol"]["batch_norm"]
    for name in PROTOCOL_FIELDS:
        with pytest.raises(InputError, match=f'does not say "{name}"'):
            check_protocol({key: value for key, value in record["protocol"].items() if key != name})


def test_mistake_50_a_probe_that_cannot_say_its_protocol_does_not_begin(log):
    def never(points, rows=None):
        raise AssertionError("features were made before the protocol was looked at")

    never.channels = 3
    with pytest.raises(InputError, match='the result does not say "teacher"'):
        probe(never, log, [0, 1, 2], [5], options=FAST, protocol={"teacher": None})


def test_points_outside_the_limits_count_as_errors(log):
    options = ProbeOptions(max_points=600, recalibrate_frames=0, knn=0, limits=Limits(range_m=(0, 10)))
    result = probe(RawCoordinates(), log, [0, 1, 2], [5], options=options)
    scan = read_scan(log, 5)
    outside = (scan.ranges_m > 10) & (scan.labels != 255)
    assert result.scores["linear"]["no_prediction"] == int(outside.sum()) > 0
    assert result.scores["linear"]["points"] == int((scan.labels != 255).sum())


@pytest.mark.parametrize(
    ("bare", "purpose"), [([0, 1, 2], "training"), ([3], "held-out"), ([4, 5], "evaluation")]
)
def test_frames_without_a_labelled_point_are_refused_before_the_work(log, monkeypatch, bare, purpose):
    whole = log.frame

    def frame(row, **options):
        found = whole(row, **options)
        if found.labels is None or row not in bare:
            return found
        return dataclasses.replace(found, labels=np.full_like(found.labels, 255))

    def never(points, rows=None):
        raise AssertionError("features were extracted before the labels were looked at")

    monkeypatch.setattr(log, "frame", frame)
    source = RawCoordinates()
    monkeypatch.setattr(RawCoordinates, "__call__", never)
    with pytest.raises(
        InputError, match=rf"none of the {len(bare)} {purpose} frames has a point of a class \(road"
    ):
        probe(source, log, [0, 1, 2, 3], [4, 5], options=FAST)
    if purpose == "evaluation":
        with pytest.raises(InputError, match="none of the 2 evaluation frames"):
            lookup_scores(log, [0, 1], [4, 5])


@pytest.mark.parametrize(("near", "what"), [([3], "1 training"), ([0, 1, 2], "1 held-out")])
def test_nothing_is_chosen_by_frames_that_have_no_labelled_point_within_the_limits(
    log, monkeypatch, near, what
):
    """The first options of the grid would be the best of all."""
    mask, places = Limits.mask, [log.frame(row).points for row in near]

    def inside(self, points):
        known = any(len(points) == len(one) and bool((points.numpy() == one).all()) for one in places)
        return mask(self, points) & known

    monkeypatch.setattr(Limits, "mask", inside)
    options = replace(FAST, limits=Limits(range_m=(0.0, 30.0)))
    rows = [0, 3] if near == [3] else [0, 1, 2, 3]
    with pytest.raises(InputError, match=f"none of the {what} frames has a labelled point within the limits"):
        probe(RawCoordinates(), log, rows, [4], held_out_rows=[3], options=options)


def test_training_frames_are_never_evaluated(log):
    with pytest.raises(ValueError, match="row 2 is a training and an evaluation frame"):
        probe(RawCoordinates(), log, [0, 1, 2], [2, 3], options=FAST)
    with pytest.raises(ValueError, match="leave frames to fit on"):
        probe(RawCoordinates(), log, [0, 1], [3], held_out_rows=[0, 1], options=FAST)
    with pytest.raises(ValueError, match="leave frames to fit on"):
        probe(RawCoordinates(), log, [0, 1], [3], held_out_rows=[4], options=FAST)


def test_several_heads_need_one_pass(log):
    sample = sample_features(RawCoordinates(), log, [0, 1])
    calls = []

    class Counting(RawCoordinates):
        def __call__(self, points, rows=None):
            calls.append(len(points))
            return super().__call__(points, rows)

    heads = {
        name: fit_linear_probe(sample.features, sample.labels, 4, weight_decay=decay)
        for name, decay in (("weak", 1e-4), ("strong", 1.0))
    }
    matrices = evaluate_heads(Counting(), log, [4, 5], heads)
    assert set(matrices) == {"weak", "strong"}
    assert len(calls) == 2


@pytest.mark.parametrize("rows", [[4, 5], [], (np.int64(4),)])
def test_scans_that_are_encoded_ahead_count_the_same(log, monkeypatch, rows):
    sample, found = sample_features(RawCoordinates(), log, [0, 1]), []
    heads = {"linear": fit_linear_probe(sample.features, sample.labels, 4)}
    seen = seen_voxels(log, [0, 1], 0.5)
    for ahead in (False, True):
        monkeypatch.setattr(evaluation, "has_free_core", lambda ahead=ahead: ahead)
        found.append(evaluate_heads(RawCoordinates(), log, rows, heads, seen=seen))
    assert all(
        found[0][name].counts.equal(found[1][name].counts) for name in ("linear", "linear, new places")
    )
