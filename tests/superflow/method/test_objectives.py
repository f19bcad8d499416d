"""Losses against slow loops over the definition, and the mistakes that the loops would not make."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_batch import make_objective, matches, of, table_of, value, with_table

from superflow.clips.batch import collate
from superflow.method.contrast import info_nce
from superflow.method.matches import EmbeddedPairs, Superpoints, TargetPairs
from superflow.method.objective import RegionContrast

spatial, temporal, cross_temporal = (
    partial(value, name) for name in ("spatial", "temporal", "cross_temporal")
)
dense_to_sparse, point_regression = partial(value, "dense_to_sparse"), partial(value, "point_regression")
point_contrast = partial(value, "point_contrast")


def rows(count: int, channels: int, seed: int) -> torch.Tensor:
    return torch.randn(
        count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).float()


def slow_info_nce(a, b, temperature, dropped=lambda i, j: False) -> float:
    total = 0.0
    for i in range(len(a)):
        terms = [
            math.exp(float(a[i] @ b[j]) / temperature) for j in range(len(b)) if j == i or not dropped(i, j)
        ]
        total -= math.log(math.exp(float(a[i] @ b[i]) / temperature) / sum(terms))
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_info_nce_is_the_definition(count, temperature):
    a, b = F.normalize(rows(count, 6, 1), dim=1), F.normalize(rows(count, 6, 2), dim=1)
    assert float(info_nce(a, b, temperature=temperature)) == pytest.approx(
        slow_info_nce(a, b, temperature), rel=1e-5
    )
    both = (slow_info_nce(a, b, temperature) + slow_info_nce(b, a, temperature)) / 2
    assert float(info_nce(a, b, temperature=temperature, symmetric=True)) == pytest.approx(both, rel=1e-5)


def test_mistake_29_a_masked_negative_is_gone_not_zero():
    a = F.normalize(rows(5, 6, 1), dim=1)
    b = F.normalize(rows(5, 6, 2), dim=1).requires_grad_()
    dropped = torch.zeros(5, 5, dtype=torch.bool)
    dropped[:, 3] = True
    loss = info_nce(a, b, dropped=dropped)
    assert float(loss.detach()) == pytest.approx(
        slow_info_nce(a, b.detach(), 0.07, lambda i, j: j == 3), rel=1e-5
    )
    # row 3 keeps its own positive; only there may column 3 receive a gradient
    loss_without = info_nce(a[[0, 1, 2, 4]], b[[0, 1, 2, 4]])
    grad = torch.autograd.grad(loss * 5 - loss_without * 4, b)[0]
    row3 = torch.autograd.grad(-torch.log_softmax((a[3] @ b.T / 0.07), dim=0)[3], b)[0]
    assert torch.allclose(grad, row3, atol=1e-4)


def test_mistake_24_equal_ids_in_other_clips_are_no_negatives_when_masked():
    q, k = F.normalize(rows(4, 6, 1), dim=1), F.normalize(rows(4, 6, 2), dim=1)
    twice = matches([(0, False)], q.repeat(2, 1)[None], k.repeat(2, 1)[None], ids=torch.arange(4).repeat(2))
    double = slow_info_nce(q.repeat(2, 1), k.repeat(2, 1), 1.0, lambda i, j: i % 4 == j % 4)
    assert float(spatial(twice, same_id="ignored", temperature=1.0)) == pytest.approx(double, rel=1e-5)
    assert float(spatial(twice, temperature=1.0)) > double + 0.1


def test_equal_ids_can_be_further_positives():
    q, k = F.normalize(rows(5, 6, 1), dim=1), F.normalize(rows(5, 6, 2), dim=1)
    ids = torch.tensor([0, 1, 0, 2, 0])
    total = 0.0
    for i in range(5):
        logits = [float(q[i] @ k[j]) for j in range(5)]
        norm = math.log(sum(math.exp(value) for value in logits))
        mine = [logits[j] - norm for j in range(5) if ids[j] == ids[i]]
        total -= sum(mine) / len(mine) / 5
    scene = matches([(0, False)], q[None], k[None], ids=ids)
    assert float(spatial(scene, same_id="positive", temperature=1.0)) == pytest.approx(total, rel=1e-5)
    with pytest.raises(ValueError, match="same_id 'same' is unknown; use one of negative"):
        spatial(scene, same_id="same")


@pytest.mark.parametrize(("spaces", "same"), [((7, 7), True), ((7, 8), False)])
def test_equal_ids_are_one_region_only_where_they_are_counted_together(spaces, same):
    """Cells of one scene seen in two clips; or cells of two scenes that happen to have one number."""
    q, k = F.normalize(rows(8, 6, 1), dim=1), F.normalize(rows(8, 6, 2), dim=1)
    scene = matches([(0, False)], q[None], k[None])
    space = torch.tensor(spaces).repeat_interleave(4)
    names = table_of(torch.arange(4).repeat(2), [(0, False)], space=space).names
    wanted = slow_info_nce(q, k, 0.2, lambda i, j: same and i % 4 == j % 4)
    found = spatial(with_table(scene, names=names), same_id="ignored", temperature=0.2)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_spatial_is_the_mean_over_times_of_filled_rows():
    q, k = rows(15, 6, 1).view(3, 5, 6), rows(15, 6, 2).view(3, 5, 6)
    q_count, k_count = torch.ones(3, 5), torch.ones(3, 5)
    q_count[0, 1] = 0
    k_count[2, 4] = 0
    scene = matches([(-1, False), (0, False), (1, False)], q, k, q_count, k_count)
    wanted = 0.0
    for t, kept in ((0, [0, 2, 3, 4]), (1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3])):
        wanted += slow_info_nce(q[t, kept], k[t, kept], 1.0) / 3
    assert float(spatial(scene, temperature=1.0)) == pytest.approx(wanted, rel=1e-5)


def test_temporal_terms_anchor_the_present():
    q, k = rows(15, 6, 1).view(3, 5, 6), rows(15, 6, 2).view(3, 5, 6)
    scene = matches([(-1, False), (0, False), (1, False)], q, k)
    in_time = (slow_info_nce(q[1], q[0], 1.0) + slow_info_nce(q[1], q[2], 1.0)) / 2
    across = (slow_info_nce(q[1], k[0], 1.0) + slow_info_nce(q[1], k[2], 1.0)) / 2
    assert float(temporal(scene, temperature=1.0)) == pytest.approx(in_time, rel=1e-5)
    assert float(cross_temporal(scene, temperature=1.0)) == pytest.approx(across, rel=1e-5)


def test_mistake_09_a_clip_without_neighbours_has_no_temporal_term():
    q = rows(5, 6, 1)[None].requires_grad_()
    loss = temporal(matches([(0, False)], q, rows(5, 6, 2)[None]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(q.grad, torch.zeros_like(q))


@pytest.mark.parametrize("kind", ["info_nce", "cosine", "l2"])
def test_dense_to_sparse(kind):
    q = rows(10, 6, 3).view(2, 5, 6)
    scene = matches([(0, False), (0, True)], q, rows(5, 6, 4)[None])
    sparse, dense = F.normalize(q[0], dim=1), F.normalize(q[1], dim=1)
    wanted = {
        "info_nce": slow_info_nce(q[0], q[1], 0.07),
        "cosine": sum(1 - float(sparse[i] @ dense[i]) for i in range(5)) / 5,
        "l2": sum(float((sparse[i] - dense[i]).square().sum()) for i in range(5)) / 5,
    }[kind]
    assert float(dense_to_sparse(scene, kind=kind)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("stop", "moves"), [("none", (True, True)), ("dense", (True, False)), ("sparse", (False, True))]
)
def test_dense_to_sparse_stops_the_named_side(stop, moves):
    q = rows(10, 6, 3).view(2, 5, 6).requires_grad_()
    dense_to_sparse(matches([(0, False), (0, True)], q, rows(5, 6, 4)[None]), stop=stop).backward()
    assert tuple(bool(q.grad[side].abs().sum() > 0) for side in (0, 1)) == moves


@pytest.mark.parametrize("kind", ["cosine", "l2"])
def test_point_regression_is_a_mean_over_pairs(kind):
    """Also where points share a voxel, and so do its gradients."""
    voxels, pixel = rows(5, 6, 5).requires_grad_(), rows(9, 6, 6)
    voxel_of = torch.tensor([0, 3, 3, 1, 0, 3, 2, 1, 1])  # nothing looks at voxel 4
    found = point_regression({TargetPairs: TargetPairs(voxels, voxel_of, pixel)}, kind=kind)
    cosines = [F.cosine_similarity(voxels[voxel_of[i]], pixel[i], dim=0) for i in range(9)]
    terms = [1 - c if kind == "cosine" else (2 - 2 * c).sqrt() for c in cosines]
    wanted = torch.stack(terms).mean()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    slope, slow_slope = (torch.autograd.grad(loss, voxels)[0] for loss in (found, wanted))
    assert torch.allclose(slope, slow_slope, atol=1e-6)
    assert not slope[4].any()


@pytest.mark.parametrize("kind", ["cosine", "l2"])
def test_even_point_regression_is_a_mean_over_voxels_of_the_means_over_their_pairs(kind):
    voxels, pixel = rows(5, 6, 5), rows(9, 6, 6)
    voxel_of = torch.tensor([0, 3, 3, 1, 0, 3, 2, 1, 1])  # nothing looks at voxel 4
    found = point_regression({TargetPairs: TargetPairs(voxels, voxel_of, pixel)}, kind=kind, even=True)
    means = []
    for voxel in range(4):
        cosines = torch.stack(
            [F.cosine_similarity(voxels[voxel], pixel[i], dim=0) for i in range(9) if voxel_of[i] == voxel]
        )
        means.append((1 - cosines if kind == "cosine" else (2 - 2 * cosines).sqrt()).mean())
    assert float(found) == pytest.approx(float(torch.stack(means).mean()), rel=1e-5)


@pytest.mark.parametrize("same_id", ["negative", "ignored", "positive"])
def test_rows_whose_positive_is_the_closest_are_counted(same_id):
    """Over columns of this step and of the queue, by loops."""
    q, k = F.normalize(rows(12, 3, 1), dim=1), F.normalize(rows(12, 3, 2), dim=1)
    ids = torch.arange(12) % 5
    scene = matches([(0, False)], q[None], k[None], ids=ids)
    spatial = make_objective("spatial", scene, same_id=same_id, queue=7)
    for _ in range(2):
        spatial.end_step()
        of(spatial, scene)
    (counts,) = spatial.counts
    columns, right = 0, 0
    every, names = torch.cat([k, k[-7:]]), torch.cat([ids, ids[-7:]])
    for i in range(12):
        same = [j != i and bool(names[j] == ids[i]) for j in range(19)]
        gone = [
            (same_id == "ignored" and s) or (same_id == "positive" and s and j >= 12)
            for j, s in enumerate(same)
        ]
        there = [j for j in range(19) if not gone[j]]
        best = max(there, key=lambda j: float(q[i] @ every[j]))
        columns += len(there)
        right += best == i or (same_id == "positive" and best < 12 and same[best])
    assert counts.tolist() == [12, columns, right]
    assert 0 < right < 12


@pytest.mark.parametrize("same_id", ["ignored", "positive"])
@pytest.mark.parametrize("further", [{}, {"queue": 7}, {"symmetric": True}])
def test_where_no_region_is_there_twice_masks_change_no_bit(same_id, further, monkeypatch):
    def found() -> tuple[list[float], list[list[int]], torch.Tensor]:
        anchors = q[None].clone().requires_grad_()
        scene = matches([(0, False)], anchors, k[None], ids=torch.arange(40) * 3)
        spatial = make_objective("spatial", scene, same_id=same_id, **further)
        losses = []
        for _ in range(2):
            spatial.end_step()
            losses.append(of(spatial, scene))
        (grad,) = torch.autograd.grad(sum(losses), anchors)
        return [loss.item() for loss in losses], [counts.tolist() for counts in spatial.counts], grad

    q, k = F.normalize(rows(40, 6, 1), dim=1), F.normalize(rows(40, 6, 2), dim=1)
    masked = []
    no_negatives = RegionContrast._no_negatives
    monkeypatch.setattr(
        RegionContrast,
        "_no_negatives",
        lambda *these: masked.append(1) or no_negatives(*these),
    )
    losses, counts, grad = found()
    assert len(masked) == (2 if "queue" in further else 0)  # the queue's rows are of other steps
    monkeypatch.setattr(RegionContrast, "_all_differ", lambda *these: False)
    plain = found()
    assert len(masked) == (6 if "queue" in further else 2)
    assert (losses, counts) == plain[:2]
    assert torch.equal(grad, plain[2])
    assert grad.abs().sum() > 0


def test_no_rows_still_give_a_gradient():
    a = torch.zeros(0, 4, requires_grad=True)
    info_nce(a, torch.zeros(0, 4)).backward()
    assert a.grad.shape == (0, 4)


def test_rows_that_do_not_match_are_named():
    with pytest.raises(ValueError, match=r"\(5, 8\).*\(4, 8\)"):
        info_nce(torch.zeros(5, 8), torch.zeros(4, 8))


def test_semantic_tolerance_drops_columns_that_the_teacher_finds_alike():
    q, k = F.normalize(rows(4, 6, 1), dim=1), F.normalize(rows(4, 6, 2), dim=1)
    teacher = torch.eye(4)
    teacher[3] = teacher[0]
    scene = matches([(0, False)], q[None], k[None])
    scene[Superpoints] = replace(scene[Superpoints], teacher=teacher)
    alike = {(0, 3), (3, 0)}
    wanted = slow_info_nce(q, k, 0.07, lambda i, j: (i, j) in alike)
    assert float(spatial(scene, tolerance=0.7)) == pytest.approx(wanted, rel=1e-5)


def test_collated_clips_keep_their_ids_apart(clip):
    from superflow.method.regions import region_table

    joint = collate([clip(0), clip(1)])
    first = region_table(clip(0), scope="clip")
    both = region_table(joint, scope="clip")
    assert torch.equal(both.ids[both.owner == 0], first.ids)


def test_points_against_pixels_is_info_nce_over_pairs():
    q, k = rows(8, 6, 1), rows(8, 6, 2)
    voxel_of = torch.tensor([0, 3, 3, 1, 7, 7, 2, 1])
    head = torch.nn.Linear(6, 6)
    found = {EmbeddedPairs: EmbeddedPairs(q * 3, voxel_of, k, head)}  # the cosine counts
    wanted = slow_info_nce(F.normalize(q, dim=1)[voxel_of], F.normalize(head(k), dim=1).detach(), 0.2)
    assert float(point_contrast(found, temperature=0.2).detach()) == pytest.approx(wanted, rel=1e-5)


def test_points_against_pixels_draws_so_many_pairs():
    q = rows(50, 6, 1)
    torch.manual_seed(0)
    found = {EmbeddedPairs: EmbeddedPairs(q, torch.arange(50), q, torch.nn.Identity())}
    losses = {round(float(point_contrast(found, max_pairs=5)), 6) for _ in range(4)}
    assert len(losses) == 4
    assert max(losses) < float(point_contrast(found))


def test_mistake_35_pairs_can_be_drawn_evenly_over_voxels():
    # one voxel at the car holds nine tenths of the pairs
    near = torch.tensor([0] * 900 + list(range(1, 101)))
    seen: list[int] = []

    def watch(pixels: torch.Tensor) -> torch.Tensor:
        seen.extend(pixels[:, 0].long().tolist())
        return pixels

    pixels = torch.arange(1000.0)[:, None].expand(-1, 6)
    found = {EmbeddedPairs: EmbeddedPairs(rows(101, 6, 1), near, pixels, watch)}
    torch.manual_seed(0)
    shares = {}
    for even in (False, True):
        seen.clear()
        for _ in range(20):
            point_contrast(found, max_pairs=50, even=even)
        shares[even] = sum(pair < 900 for pair in seen) / len(seen)
    assert shares[False] == pytest.approx(0.9, abs=0.05)
    assert shares[True] == pytest.approx(1 / 101, abs=0.02)
    assert len({pair for pair in seen if pair < 900}) > 2  # another one of its pairs each time


def test_what_is_no_contrast_has_no_options_of_one():
    scene = matches([(0, False), (0, True)], rows(10, 6, 1).view(2, 5, 6), rows(5, 6, 4)[None])
    with pytest.raises(ValueError, match="kind 'cosine' is no contrast and has no 'temperature'"):
        dense_to_sparse(scene, kind="cosine", temperature=0.2)
