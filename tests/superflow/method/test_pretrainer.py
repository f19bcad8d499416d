"""The whole loss on a small batch: published route, fast route, and what must not matter."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from small_batch import CLASSES, PRETRAINERS, Fixed
from torch import Tensor, nn

from superflow.clips.batch import OF_IMAGES, Batch, collate
from superflow.errors import InputError
from superflow.lidar.encoder import LidarEncoder
from superflow.method.matches import Superpixels, Superpoints
from superflow.method.pixels import ImageFeatures, pool_patches, pool_pixels
from superflow.method.pretrainer import Pretrainer, effective_rank

SUPERFLOW = [
    {"type": "spatial"},
    {"type": "temporal"},
    {"type": "cross_temporal"},
    {"type": "dense_to_sparse"},
]


def pretrainer(student, objectives=SUPERFLOW, **options) -> Pretrainer:
    torch.manual_seed(1)
    options = {"channels": 6} | options
    return Pretrainer(student, Fixed(), objectives=objectives, **options)


def match(model: Pretrainer, batch: Batch) -> tuple[Superpoints, Superpixels]:
    points = model.student(batch.points, batch.cloud, batch.num_clouds)
    found = model.match(batch, points, ImageFeatures(batch.images, batch))
    return found[Superpoints], found[Superpixels]


@pytest.mark.parametrize("channels", [6, None])
@pytest.mark.parametrize("pixels", ["all", "hit"])
@pytest.mark.parametrize("normalize", ["before", "after", "both"])
def test_gradients_reach_every_parameter(student, clip, normalize, pixels, channels):
    model = pretrainer(
        student,
        [*SUPERFLOW, {"type": "point_regression"}],
        normalize=normalize,
        pixels=pixels,
        channels=channels,
    )
    losses = model.loss(collate([clip(0), clip(1)]))
    losses["loss"].backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []
    assert losses["regions"] > 0
    assert losses["pairs"] == 160


def without_images(clip: Batch) -> Batch:
    return replace(clip, **dict.fromkeys(OF_IMAGES))


def test_clips_without_images_train_what_needs_none_and_leave_the_rest_as_it_is(student, clip):
    objectives = [*SUPERFLOW, {"type": "point_regression"}, {"type": "segmentation"}]
    model = pretrainer(student, objectives, num_classes=CLASSES)
    alone = model.loss(collate([clip(0), clip(1)]))
    mixed = model.loss(collate([without_images(clip(2)), clip(0), without_images(clip(3)), clip(1)]))
    for name in ("spatial", "temporal", "cross_temporal", "dense_to_sparse", "point_regression"):
        torch.testing.assert_close(mixed[name], alone[name])
    assert mixed["pairs"] == alone["pairs"]
    assert mixed["labelled_points"] > alone["labelled_points"]
    assert not mixed["segmentation"].isclose(alone["segmentation"])


@pytest.mark.parametrize("pixels", ["all", "hit"])
def test_a_batch_of_clips_without_images_alone_is_one_like_any_other(student, clip, pixels):
    nothing = {name: None if (value := getattr(clip(0), name)) is None else value[:0] for name in OF_IMAGES}
    objectives = [*SUPERFLOW, {"type": "point_regression"}, {"type": "segmentation"}]
    model = pretrainer(student, objectives, num_classes=CLASSES, pixels=pixels)
    out = model.loss(collate([replace(clip(seed), **nothing) for seed in (2, 3)]))
    assert (out["pairs"], out["regions"]) == (0, 0)
    torch.testing.assert_close(out["loss"], out["segmentation"])
    out["loss"].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_contrasts_report_their_health_and_what_is_none_does_not(student, clip):
    objectives = [
        {"type": "spatial"},
        {"type": "dense_to_sparse", "kind": "cosine"},
        {"type": "point_contrast"},
    ]
    out = pretrainer(student, objectives).loss(collate([clip(0), clip(1)]))
    assert {name.rpartition("_")[0] for name in out if name.endswith("_top1")} == {
        "spatial",
        "point_contrast",
    }
    assert out["point_contrast_columns"] == out["pairs"] == 160
    assert 1 <= out["spatial_columns"] <= 12
    assert all(0 <= out[f"{name}_top1"] <= 1 for name in ("spatial", "point_contrast"))


def test_loss_is_the_weighted_sum(student, clip):
    weights = [1.0, 0.5, 0.25, 2.0]
    model = pretrainer(student, [dict(o, weight=w) for o, w in zip(SUPERFLOW, weights)])
    out = model.loss(clip(0))
    total = sum(w * out[o["type"]] for o, w in zip(SUPERFLOW, weights))
    assert float(out["loss"].detach()) == pytest.approx(float(total), rel=1e-6)


def test_mistake_41_a_second_pass_over_the_batch_is_the_same(student, clip):
    model, batch = pretrainer(student), collate([clip(0), clip(1)])
    before = {f.name: v.clone() for f in fields(batch) if isinstance(v := getattr(batch, f.name), Tensor)}
    first, second = (float(model.loss(batch)["loss"].detach()) for _ in range(2))
    assert first == second
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())


def test_mistake_26_pooled_means_are_renormalised_only_when_asked(student, clip):
    norms = {}
    for normalize in ("before", "both"):
        found, _ = match(pretrainer(student, normalize=normalize), clip(0))
        norms[normalize] = found.features[found.counts > 1].norm(dim=1)
    assert (norms["before"] < 0.999).any()
    assert torch.allclose(norms["both"], torch.ones_like(norms["both"]), atol=1e-5)


@pytest.mark.parametrize("normalize", ["before", "after"])
def test_without_channels_superpixels_are_the_teachers_features(student, clip, normalize):
    batch = clip(0)
    model = pretrainer(student, channels=None, normalize=normalize)
    q, k = match(model, batch)
    pool = pool_pixels if normalize == "before" else pool_patches  # pool_pixels normalises each pixel
    means, counts = pool(batch.images, batch, k.table)
    wanted = means if normalize == "before" else F.normalize(means, dim=-1)
    assert torch.allclose(k.features, wanted, atol=1e-6)
    assert torch.equal(k.counts, counts)
    assert q.features.shape[-1] == Fixed.channels
    assert [name for name, _ in model.named_parameters() if name.startswith("image_head")] == []


def test_patches_by_matrix_equal_the_upsampled_head(student, clip):
    """normalize='after': the head on pooled patches is the pooled, upsampled head (linear)."""
    batch = clip(0)
    model = pretrainer(student, normalize="after")
    _, k = match(model, batch)
    embedded = model.image_head(batch.images.movedim(1, -1)).movedim(-1, 1)
    full = F.interpolate(embedded, batch.view_size, mode="bilinear", align_corners=False)
    time, row = 1, 0
    mine = [
        full[i].flatten(1).T[batch.superpixels[i].flatten() == k.table.ids[row]]
        for i in range(len(full))
        if int(batch.image_offset[i]) == k.table.offsets[time]
    ]
    wanted = F.normalize(torch.cat(mine).mean(0), dim=0)
    assert torch.allclose(k.features[time, row], wanted, atol=1e-5)


def test_order_of_pairs_does_not_matter(student, clip):
    batch = clip(0)
    order = torch.randperm(len(batch.pair_point), generator=torch.Generator().manual_seed(0))
    mixed = replace(
        batch,
        **{
            name: getattr(batch, name)[order]
            for name in ("pair_point", "pair_image", "pair_pixel", "pair_region")
        },
    )
    model = pretrainer(student)
    assert float(model.loss(mixed)["loss"].detach()) == pytest.approx(
        float(model.loss(batch)["loss"].detach()), rel=1e-5
    )


def test_regression_alone_has_no_region_heads(student, clip):
    model = pretrainer(student, [{"type": "point_regression"}])
    assert not list(model.point_head.parameters())
    assert not list(model.image_head.parameters())
    batch = replace(clip(0), superpixels=None)
    model.loss(batch)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "objectives",
    [
        [{"type": "temporal"}],
        [{"type": "dense_to_sparse"}, {"type": "point_regression"}],
        [{"type": "point_contrast"}],
    ],
)
def test_every_list_of_objectives_reaches_every_parameter(student, clip, objectives):
    """In several processes a parameter without a gradient stops the run."""
    model = pretrainer(student, objectives)
    model.loss(clip(0))["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_teacher_sees_all_images_in_one_pass_without_gradient(student, clip):
    class Counting(nn.Module):
        channels, calls = 5, 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return images * 2

        def record(self) -> dict:
            return {"name": "counting"}

    teacher = Counting()
    torch.manual_seed(1)
    model = Pretrainer(student, teacher, objectives=SUPERFLOW, channels=6)
    batch = collate([clip(0), clip(1)])
    doubled = replace(batch, images=batch.images * 2)
    assert float(model.loss(batch)["loss"].detach()) == pytest.approx(
        float(pretrainer(student).loss(doubled)["loss"].detach()), rel=1e-5
    )
    assert teacher.calls == 1
    assert model.record()["teacher"] == {"name": "counting"}


@pytest.mark.parametrize("pixels", ["all", "hit"])
def test_tolerance_reads_the_teacher(student, clip, pixels):
    batch = clip(0)
    plain = pretrainer(student, [{"type": "spatial", "tolerance": None}], pixels=pixels)
    tolerant = pretrainer(student, [{"type": "spatial", "tolerance": -1.1}], pixels=pixels)
    assert match(plain, batch)[0].teacher.shape[1] == 0
    # every row is tolerated as a negative: only the positive is left
    assert float(tolerant.loss(batch)["loss"].detach()) == pytest.approx(0, abs=1e-6)
    assert float(plain.loss(batch)["loss"].detach()) > 0.1


@pytest.mark.parametrize("pixels", ["all", "hit"])
def test_what_the_teacher_sees_of_a_region_is_its_mean_over_all_times(student, clip, pixels):
    """Also of a region that only a neighbour saw: it is alike or not like every other."""
    batch = clip(0)
    time, region = batch.image_offset[batch.pair_image], 2
    batch = replace(
        batch, pair_region=torch.where((time == 0) & (batch.pair_region == region), -1, batch.pair_region)
    )
    model = pretrainer(student, [{"type": "spatial", "tolerance": 0.5}], pixels=pixels)
    found, _ = match(model, batch)
    full = F.interpolate(batch.images, batch.view_size, mode="bilinear", align_corners=False)
    dense = batch.cloud_dense[batch.cloud[batch.pair_point]]
    assert not found.of(0)[1][found.table.ids == region].any()
    for row, name in enumerate(found.table.ids.tolist()):
        if pixels == "all":
            image, v, u = torch.nonzero(batch.superpixels == name).T
        else:
            mine = (batch.pair_region == name) & ~dense
            image, (u, v) = batch.pair_image[mine], batch.pair_pixel[mine].long().T
        assert torch.allclose(found.teacher[row], full[image, :, v, u].mean(0), atol=1e-5)


def test_tolerance_over_all_pixels_needs_maps(student, clip):
    model = pretrainer(student, [{"type": "temporal", "tolerance": 0.5}])
    with pytest.raises(ValueError, match='pixels="all" needs superpixel maps'):
        model.loss(replace(clip(0), superpixels=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objectives": [{"type": "spatial", "same_id": "no"}]},
            "same_id 'no' is unknown; use one of negative, ",
        ),
        ({"objectives": [{"type": "spatial", "queue": 8, "gather": False}]}, "so it needs gather=True"),
        (
            {"objectives": [{"type": "dense_to_sparse", "kind": "l1"}]},
            "kind 'l1' is unknown; use one of info_nce, ",
        ),
        (
            {"objectives": [{"type": "dense_to_sparse", "stop": "both"}]},
            "stop 'both' is unknown; use one of none, ",
        ),
        (
            {"objectives": [{"type": "dense_to_sparse", "kind": "l2", "queue": 8}]},
            "is no contrast and has no 'queue'",
        ),
        (
            {"objectives": [{"type": "point_regression", "kind": "l1"}]},
            "kind 'l1' is unknown; use cosine or l2",
        ),
        (
            {"region": {"scope": "scene"}},
            "region scope 'scene' is unknown; use one of image, camera, clip, batch",
        ),
        (
            {"region": {"weighting": "mean"}},
            "region weighting 'mean' is unknown; use one of pair, point, voxel",
        ),
        ({"region": {"scope": "image"}}, 'with region scope "image" no region is in two images'),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(student, clip, options, message):
    """An InputError is what commands print instead of a traceback."""
    with pytest.raises(InputError, match=message):
        pretrainer(student, **options).loss(clip(0))


def test_unknown_objective_names_the_known(student):
    with pytest.raises(ValueError, match=r"'spatail' is unknown; known: spatial"):
        pretrainer(student, [{"type": "spatail"}])


def test_regions_without_maps_are_one_sentence(student, clip):
    with pytest.raises(InputError, match='pixels="all" needs superpixel maps'):
        pretrainer(student).loss(replace(clip(0), superpixels=None))


def test_an_objective_listed_twice_is_refused(student):
    with pytest.raises(ValueError, match="'spatial' is listed twice"):
        pretrainer(student, [{"type": "spatial"}, {"type": "spatial", "temperature": 0.5}])


def test_objectives_that_all_weigh_nothing_are_refused(student):
    two = [{"type": "spatial", "weight": 0}, {"type": "temporal", "weight": 0}]
    with pytest.raises(ValueError, match="all objectives have the weight 0, and nothing would be learned"):
        pretrainer(student, two)
    assert len(pretrainer(student, [two[0], {"type": "temporal"}]).objectives) == 2


def test_collate_names_what_only_some_samples_have(clip):
    with pytest.raises(ValueError, match="superpixels: 1 of 2"):
        collate([clip(0), replace(clip(1), superpixels=None)])


def test_collate_changes_nothing_and_shifts_rows(clip):
    first, second = clip(0), clip(1)
    joint = collate([first, second])
    assert torch.equal(joint.pair_point[len(first.pair_point) :], second.pair_point + len(first.points))
    assert torch.equal(joint.image_clip.unique(), torch.tensor([0, 1]))
    assert isinstance(joint.to("cpu"), Batch)
    assert torch.equal(second.cloud, clip(1).cloud)


def test_effective_rank_counts_directions():
    features = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    assert effective_rank(features) == pytest.approx(4, abs=0.05)
    assert effective_rank(features[:, :1] @ torch.ones(1, 8)) == pytest.approx(1, abs=1e-3)


# --- what no weight decides, made before the step

SMALL = {"grid": {"type": "cubic", "size_m": 0.5}, "backbone": {"depth": "tiny"}}


@pytest.mark.parametrize(
    "name", ["published", "hit", "no image head", "batch norm apart", "pooling", "memory"]
)
def test_a_step_looked_ahead_has_the_bits_of_one_that_is_not(clip, name, monkeypatch):
    found = []
    for looks_ahead in (False, True):
        torch.manual_seed(3)
        model = Pretrainer(LidarEncoder(**SMALL), Fixed(), **PRETRAINERS[name])
        model.teacher = None  # the batch's maps are cached features
        monkeypatch.setattr(model, "pixels", Counted(model.pixels))
        batch = collate([clip(0), clip(1)])
        batch = model.look_ahead(batch) if looks_ahead else batch
        made = model.pixels.calls
        torch.manual_seed(4)
        out = model.loss(batch)
        out["loss"].backward()
        # not again in the step
        assert name != "hit" or model.pixels.calls == made + (0 if looks_ahead else 2)
        found.append([out["loss"].detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        # the means are made once: before the step, or within it
        assert not looks_ahead or not made or model.pixels.calls == made
    assert len(found[0]) > 20
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


class Counted:
    """``pixels`` of a pretrainer, counting the means of frozen features."""

    def __init__(self, pixels) -> None:
        self.pixels, self.calls = pixels, 0

    def means(self, *arguments):
        self.calls += 1
        return self.pixels.means(*arguments)

    def means_of_unit(self, *arguments):
        return self.pixels.means_of_unit(*arguments)
