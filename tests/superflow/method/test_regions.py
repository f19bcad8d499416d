"""Pooling against loops over pairs and pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from live_memory import LiveMemory
from torch import nn

from superflow.clips.batch import collate
from superflow.method.patches import View
from superflow.method.pixels import PIXELS, ImageFeatures, pool_hits, pool_patches, pool_pixels, sample_pixels
from superflow.method.pooling import mean_of_members, members_of, pool_points, segment_mean
from superflow.method.regions import region_table


def owner_of(batch, pair, scope):
    image = int(batch.pair_image[pair])
    return {"image": image, "clip": int(batch.image_clip[image]), "batch": 0}[scope]


def test_segment_mean_is_a_mean():
    values, index = torch.randn(9, 3), torch.tensor([0, 2, 2, 0, 4, 4, 4, 2, 0])
    means, counts = segment_mean(values, index, 5)
    for segment in range(5):
        mine = values[index == segment]
        assert counts[segment] == len(mine)
        assert torch.allclose(means[segment], mine.mean(0) if len(mine) else torch.zeros(3), atol=1e-6)


@pytest.mark.parametrize(("scope", "id_scope"), [("clip", "image"), ("batch", "image"), ("batch", "clip")])
def test_mistake_23_ids_that_mean_different_things_are_not_joined(clip, scope, id_scope):
    batch = replace(clip(0), id_scope=id_scope)
    with pytest.raises(
        ValueError, match=f"same within one {id_scope} only; set model.region.scope='{id_scope}'"
    ):
        region_table(batch, scope=scope)
    region_table(batch, scope=id_scope)


@pytest.mark.parametrize("scope", ["image", "clip", "batch"])
def test_mistake_23_rows_follow_the_scope_of_ids(clip, scope):
    batch = collate([clip(0), clip(1)])
    table = region_table(batch, scope=scope)
    names = {}
    for pair in range(len(batch.pair_point)):
        name = (owner_of(batch, pair, scope), int(batch.pair_region[pair]))
        assert names.setdefault(name, int(table.region[pair])) == int(table.region[pair])
    assert len(names) == len(table.ids) == len(set(names.values()))


def test_mistake_22_ignored_ids_change_nothing(clip):
    batch = clip(0)
    ignored = replace(batch, pair_region=torch.where(batch.pair_region == 3, -1, batch.pair_region))
    by_id = region_table(batch, scope="clip", ignore=(3,))
    assert torch.equal(by_id.region, region_table(ignored, scope="clip").region)
    assert not (by_id.ids == 3).any()


def test_mistake_19_ids_do_not_wrap(clip):
    batch = collate([clip(seed) for seed in range(16)])
    large = replace(batch, pair_region=batch.pair_region + 65000)
    assert torch.equal(region_table(large, scope="image").region, region_table(batch, scope="image").region)


@pytest.mark.parametrize("weighting", ["pair", "point", "voxel"])
def test_superpoints_are_means_of_their_members(clip, weighting):
    batch = collate([clip(0), clip(1)])
    inverse = torch.arange(len(batch.points)) // 2
    features = torch.randn(len(inverse) // 2, 3)
    table = region_table(batch, scope="clip", ignore=(5,))
    means, counts = pool_points(features, inverse, batch, table, weighting=weighting)
    for group, (offset, dense) in enumerate(table.groups):
        for row in range(len(table.ids)):
            members = []
            for pair, point in enumerate(batch.pair_point.tolist()):
                cloud = int(batch.cloud[point])
                here = (int(batch.cloud_offset[cloud]), bool(batch.cloud_dense[cloud])) == (offset, dense)
                if here and int(table.region[pair]) == row:
                    members.append(point)
            if weighting == "point":
                members = sorted(set(members))
            voxels = [int(inverse[m]) for m in members]
            voxels = sorted(set(voxels)) if weighting == "voxel" else voxels
            assert counts[group, row] == len(voxels)
            if voxels:
                assert torch.allclose(means[group, row], features[voxels].mean(0), atol=1e-5)


def test_means_of_members_have_the_gradient_of_plain_sums_and_keep_no_member_for_it(clip):
    batch = collate([clip(0), clip(1)])
    inverse = torch.arange(len(batch.points)) // 2
    members = members_of(len(inverse) // 2, inverse, batch, region_table(batch), range_power=1.0)
    features = torch.randn(len(inverse) // 2, 16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        means, counts = mean_of_members(features, members)
    assert max(tensor.numel() for tensor in kept) == len(members.voxel)
    means.square().sum().backward()
    plain = features.detach().clone().requires_grad_()
    one_hot = torch.zeros(counts.numel(), len(plain)).index_put(
        (members.segment, members.voxel), members.weight, accumulate=True
    )
    (one_hot @ plain).square().sum().backward()
    assert plain.grad.any()
    assert torch.allclose(features.grad, plain.grad, atol=1e-5)


@pytest.mark.parametrize("weighting", ["pair", "point", "voxel"])
@pytest.mark.parametrize("power", [-1.0, 2.0])
def test_members_weigh_by_their_distance(clip, weighting, power):
    batch = clip(0)
    batch = replace(batch, points=batch.points * 20)
    inverse = torch.arange(len(batch.points)) // 2
    features = torch.randn(len(inverse) // 2, 3)
    table = region_table(batch)
    means, counts = pool_points(features, inverse, batch, table, weighting=weighting, range_power=power)
    plain_means, plain_counts = pool_points(features, inverse, batch, table, weighting=weighting)
    assert torch.equal(counts, plain_counts)
    assert not torch.allclose(means, plain_means, atol=1e-2)
    distance = batch.points[:, :2].norm(dim=1).view(-1, 2).mean(1).clamp(min=1.0)  # of a voxel's two points
    group, row = 1, 2
    members = []
    for pair, point in enumerate(batch.pair_point.tolist()):
        if int(table.cloud_group[batch.cloud[point]]) == group and int(table.region[pair]) == row:
            members.append(int(inverse[point]) if weighting == "voxel" else point)
    members = members if weighting == "pair" else sorted(set(members))
    voxels = members if weighting == "voxel" else [int(inverse[point]) for point in members]
    weights = distance[voxels] ** power
    wanted = (features[voxels] * weights[:, None]).sum(0) / weights.sum()
    assert torch.allclose(means[group, row], wanted, atol=1e-5)


def test_mistake_28_a_point_seen_a_hundred_times_weighs_once(clip):
    batch = clip(0)
    repeat = torch.cat([torch.arange(len(batch.pair_point)), torch.zeros(100, dtype=torch.int64)])
    many = replace(
        batch,
        **{
            name: getattr(batch, name)[repeat]
            for name in ("pair_point", "pair_image", "pair_pixel", "pair_region")
        },
    )
    inverse, features = torch.arange(len(batch.points)), torch.randn(len(batch.points), 3)
    table, larger = region_table(batch), region_table(many)
    one, _ = pool_points(features, inverse, batch, table, weighting="voxel")
    two, _ = pool_points(features, inverse, many, larger, weighting="voxel")
    assert torch.allclose(one, two)
    assert not torch.allclose(
        pool_points(features, inverse, batch, table)[0], pool_points(features, inverse, many, larger)[0]
    )


def test_a_superpoint_of_too_few_points_is_empty(clip):
    batch = clip(0)
    inverse, features = torch.arange(len(batch.points)), torch.randn(len(batch.points), 3)
    table = region_table(batch)
    _, every = pool_points(features, inverse, batch, table)
    _, large = pool_points(features, inverse, batch, table, min_points=4)
    assert ((every > 0) & (every < 4)).any()
    assert torch.equal(large, torch.where(every >= 4, every, 0.0))


def test_mistake_25_a_zero_first_channel_is_a_feature(clip):
    batch = clip(0)
    features = torch.randn(len(batch.points), 3)
    features[:, 0] = 0
    table = region_table(batch)
    _, counts = pool_points(features, torch.arange(len(batch.points)), batch, table)
    assert int((counts.sum(0) > 0).sum()) == len(table.ids)


def slow_superpixels(maps, batch, table, *, normalized):
    """Loop over images and pixels of the maps enlarged to the view."""
    full = F.interpolate(maps, batch.view_size, mode="bilinear", align_corners=False)
    full = F.normalize(full, dim=1) if normalized else full
    rows = {(int(o), int(i)): r for r, (o, i) in enumerate(zip(table.owner, table.ids))}
    found = {}
    for image in range(len(maps)):
        owner = {"image": image, "clip": int(batch.image_clip[image]), "batch": 0}[table.scope]
        time = table.offsets.index(int(batch.image_offset[image]))
        for v in range(batch.view_size[0]):
            for u in range(batch.view_size[1]):
                row = rows.get((owner, int(batch.superpixels[image, v, u])))
                if row is not None:
                    found.setdefault((time, row), []).append(full[image, :, v, u])
    return found


@pytest.mark.parametrize("scope", ["image", "clip", "batch"])
@pytest.mark.parametrize("normalized", [False, True])
def test_mistake_27_superpixels_without_full_maps_equal_the_full_maps(clip, scope, normalized):
    batch = collate([clip(0), clip(1)])
    table = region_table(batch, scope=scope)
    pool = pool_pixels if normalized else pool_patches
    means, counts = pool(batch.images, batch, table)
    slow = slow_superpixels(batch.images, batch, table, normalized=normalized)
    for time in range(len(table.offsets)):
        for row in range(len(table.ids)):
            members = slow.get((time, row), [])
            assert counts[time, row] == len(members)
            if members:
                assert torch.allclose(means[time, row], torch.stack(members).mean(0), atol=1e-5)


def large_views(clip, channels=64, view=(96, 128)):
    """The small clip with many channels and large images; one full map of one image is channels * H * W * 4 bytes."""
    batch = clip(0)
    maps = torch.randint(6, (len(batch.images), *view), dtype=torch.int32)
    images = torch.randn(len(batch.images), channels, 6, 8)
    return replace(batch, images=images, superpixels=maps, view_size=view), channels * view[0] * view[1] * 4


def test_mistake_27_superpixels_of_patches_never_hold_a_full_map(clip):
    batch, full_map = large_views(clip)
    table = region_table(batch)
    with LiveMemory() as memory:
        pool_patches(batch.images, batch, table)
    assert memory.peak < full_map
    with LiveMemory() as plain:  # the mistake, which the budget has to tell from what it allows
        F.interpolate(batch.images, batch.view_size, mode="bilinear", align_corners=False)
    assert plain.peak == len(batch.images) * full_map


def test_mistake_27_the_published_route_never_holds_a_full_map_either(clip):
    batch, full_map = large_views(clip)
    images = batch.images.clone().requires_grad_()
    with LiveMemory() as memory:
        pool_pixels(images, batch, region_table(batch))[0].square().sum().backward()
    assert memory.peak < full_map


@pytest.mark.parametrize(
    ("grid", "view"), [((4, 6), (8, 12)), ((3, 5), (16, 9)), ((1, 7), (5, 7)), ((6, 4), (3, 2))]
)
def test_norms_of_pixels_are_those_of_the_upsampled_map(grid, view):
    image = torch.randn(5, *grid, generator=torch.Generator().manual_seed(0))
    image[:, 0, 1] = -image[:, 0, 0]  # between these the pixels almost vanish
    full = F.interpolate(image[None], view, mode="bilinear", align_corners=False)[0]
    squares = View(view, grid, image.device).squares(image.movedim(0, -1))
    assert torch.allclose(squares, full.square().sum(0), atol=1e-5)


def test_maps_of_zeros_have_means_and_gradients_of_zeros(clip):
    batch = clip(0)
    images = torch.zeros_like(batch.images).requires_grad_()
    means, _ = pool_pixels(images, batch, region_table(batch))
    means.sum().backward()
    assert not means.any()
    assert images.grad.isfinite().all()


def test_the_published_route_has_the_gradient_of_the_plain_one(clip):
    batch = clip(3)
    table = region_table(batch)
    images = batch.images.clone().requires_grad_()
    pool_pixels(images, batch, table)[0].square().sum().backward()
    plain = batch.images.clone().requires_grad_()
    slow = slow_superpixels(plain, batch, table, normalized=True)
    sum(torch.stack(members).mean(0).square().sum() for members in slow.values()).backward()
    assert torch.allclose(images.grad, plain.grad, atol=1e-5)


@pytest.mark.parametrize("scope", ["image", "clip", "batch"])
@pytest.mark.parametrize("method", ["means", "means_of_unit"])
def test_pixels_under_points_are_pooled_as_if_each_pair_had_its_features(clip, scope, method):
    batch = collate([clip(0), clip(1)])
    edge = torch.tensor([[-0.4, 3.0], [11.4, 7.4], [5.0, -0.4]])  # beyond the centres of the outermost cells
    batch.pairs.pixel[: len(edge)] = edge
    table = region_table(batch, scope=scope, ignore=(1,))
    head = nn.Linear(batch.images.shape[1], 3)
    given = [] if method == "means" else [head]
    means, counts = getattr(PIXELS["hit"], method)(ImageFeatures(batch.images, batch), table, *given)
    pairs = sample_pixels(batch.images, batch)
    pairs = F.normalize(head(pairs), dim=1) if given else pairs
    plain, plain_counts = pool_hits(pairs, batch, table)
    assert torch.allclose(means, plain, atol=1e-5)
    assert torch.equal(counts, plain_counts)
    assert counts.sum() > 20


def test_means_of_pixels_under_points_never_hold_the_features_of_all_pairs(clip):
    batch, _ = large_views(clip, channels=256)
    pairs = {name: getattr(batch, name) for name in ("pair_point", "pair_image", "pair_pixel", "pair_region")}
    many = {name: value.repeat(200, *[1] * (value.ndim - 1)) for name, value in pairs.items()}
    batch = replace(batch, **many)
    table = region_table(batch)
    of_pairs = len(batch.pairs.point) * 256 * 4
    with LiveMemory() as memory:
        PIXELS["hit"].means(ImageFeatures(batch.images, batch), table)
    assert memory.peak < of_pairs / 2
    with LiveMemory() as plain:
        pool_hits(sample_pixels(batch.images, batch), batch, table)
    assert plain.peak > of_pairs


def test_pixels_are_sampled_where_the_enlarged_map_has_them(clip):
    batch = clip(0)
    full = F.interpolate(batch.images, batch.view_size, mode="bilinear", align_corners=False)
    sampled = sample_pixels(batch.images, batch)
    for pair in range(len(sampled)):
        u, v = batch.pair_pixel[pair].long()
        assert torch.allclose(sampled[pair], full[batch.pair_image[pair], :, v, u], atol=1e-5)


def test_hit_pixels_are_those_of_sparse_clouds(clip):
    batch = clip(0)
    table = region_table(batch)
    features = torch.randn(len(batch.pair_point), 3)
    means, counts = pool_hits(features, batch, table)
    for time, offset in enumerate(table.offsets):
        for row in range(len(table.ids)):
            cloud = batch.cloud[batch.pair_point]
            mine = (batch.cloud_offset[cloud] == offset) & ~batch.cloud_dense[cloud] & (table.region == row)
            assert counts[time, row] == mine.sum()
            if mine.any():
                assert torch.allclose(means[time, row], features[mine].mean(0), atol=1e-6)


def test_unknown_scope_names_the_known():
    with pytest.raises(ValueError, match="image, camera, clip, batch"):
        region_table(None, scope="scene")
