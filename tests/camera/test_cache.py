"""Cached features: right, resumable, tied to what made them."""

from __future__ import annotations

import errno
import logging
import pickle
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from image_files import read_image
from torch import Tensor, nn

from superflow.camera import cache_build
from superflow.camera.cache import FeatureCache
from superflow.camera.cache_build import build_feature_cache
from superflow.camera.crops import resize_image
from superflow.camera.reduction import Reduction, ReductionFit
from superflow.camera.teacher import Teacher
from superflow.errors import InputError, MissingFileError
from superflow.files import writes

SIZE = (32, 48)


class TwoScales(nn.Module):
    """Seven channels, the last three 50 times larger; stops after ``limit`` images as a kill would."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 4, stride=4, bias=False)
        generator = torch.Generator().manual_seed(3)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)
        self.conv.weight.data[4:] *= 50
        self.limit, self.seen = limit, 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if self.limit is not None and self.seen > self.limit:
            raise KeyboardInterrupt
        return self.conv(images)


def make_small_teacher(limit: int | None = None, sha256: str = "abc") -> Teacher:
    source = {"weights": "made", "sha256": sha256}
    return Teacher(TwoScales(limit), name="made", scale_channels=(4, 3), stride=4, multiple=4, source=source)


def all_features(cameras: list, teacher: Teacher) -> np.ndarray:
    """(N, C, h, w) of images that already have the teacher's size."""
    images = np.stack([read_image(camera.path) for camera in cameras])
    return teacher(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).numpy().astype(np.float64)


class Keeping(TwoScales):
    """As some networks with hooks: what a pass has made lies in the network until its end."""

    def forward(self, images: Tensor) -> Tensor:
        self.kept = super().forward(images)
        time.sleep(0.005)  # another thread comes between
        return self.kept


@pytest.mark.parametrize("batch", [1, 2])
def test_passes_at_once_are_those_of_one_after_the_other(make_cameras, tmp_path, batch):
    cameras, source = make_cameras(7, size=SIZE), {"weights": "made", "sha256": "abc"}
    caches, before = [], torch.get_num_threads()
    for threads in (None, 1, 3):
        shape = {"scale_channels": (4, 3), "stride": 4, "multiple": 4}
        teacher = Teacher(Keeping(), name="made", **shape, source=source)
        options = {"size": SIZE, "components": 3, "batch": batch, "threads": threads}
        caches.append(build_feature_cache(cameras, teacher, tmp_path / str(threads), **options))
    assert torch.get_num_threads() == before
    for cache in caches[1:]:
        assert cache.tokens == caches[0].tokens
        assert cache.identities() == caches[0].identities()
        assert cache.record["reduction_sha256"] == caches[0].record["reduction_sha256"]
        for camera in cameras:
            np.testing.assert_array_equal(cache.read(camera.token), caches[0].read(camera.token))


def test_images_of_the_fit_are_seen_once_while_memory_lasts(make_cameras, tmp_path, monkeypatch):
    cameras, caches = make_cameras(7, size=SIZE), []
    one = 4 * 7 * 8 * 12  # bytes of the features of an image
    for most, passes in ((2**29, 7), (2 * one, 10), (0, 12)):
        monkeypatch.setattr(cache_build, "_KEPT_BYTES", most)
        teacher, folder = make_small_teacher(), tmp_path / str(most)
        options = {"size": SIZE, "components": 3, "fit_images": 5}
        caches.append(build_feature_cache(cameras, teacher, folder, **options))
        assert teacher.network.seen == passes
    for cache in caches[1:]:
        assert cache.identities() == caches[0].identities()
        for camera in cameras:
            np.testing.assert_array_equal(cache.read(camera.token), caches[0].read(camera.token))


def test_equals_standardise_weigh_and_svd(make_cameras, tmp_path):
    cameras, teacher = make_cameras(5, size=SIZE), make_small_teacher()
    cache = build_feature_cache(cameras, teacher, tmp_path / "cache", size=SIZE, components=3)
    raw = all_features(cameras, teacher)
    rows = raw.transpose(0, 2, 3, 1).reshape(-1, 7)
    weight = np.sqrt([7 / (2 * 4)] * 4 + [7 / (2 * 3)] * 3)  # each scale gets half of the variance
    standard = (rows - rows.mean(0)) / rows.std(0) * weight
    _, spread, directions = np.linalg.svd(standard, full_matrices=False)
    directions = directions[:3] * np.sign(directions[np.arange(3), np.abs(directions[:3]).argmax(1)])[:, None]
    expected = (standard @ directions.T).reshape(5, 8, 12, 3).transpose(0, 3, 1, 2)
    got = np.stack([cache.read(camera.token) for camera in cameras])
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, expected, atol=5e-3)
    assert cache.record["kept_variance"] == pytest.approx(
        (spread[:3] ** 2).sum() / (spread**2).sum(), abs=1e-4
    )
    assert (cache.channels, cache.grid, len(cache)) == (3, (8, 12), 5)
    assert cache.tokens == tuple(camera.token for camera in cameras)
    assert "token1" in cache
    assert "token9" not in cache
    # the stored reduction turns new features into the same numbers
    again = cache.reduction()(torch.from_numpy(raw[:1]))
    np.testing.assert_allclose(again[0].numpy(), got[0], atol=5e-3)


def test_without_components_each_scale_has_the_same_variance(make_cameras, tmp_path):
    cameras = make_cameras(3, size=SIZE)
    cache = build_feature_cache(cameras, make_small_teacher(), tmp_path, size=SIZE, components=None)
    values = np.stack([cache.read(camera.token) for camera in cameras]).astype(np.float64)
    variance = values.transpose(1, 0, 2, 3).reshape(7, -1).var(axis=1)
    np.testing.assert_allclose(variance[:4], 7 / 8, rtol=0.01)
    assert variance[:4].sum() == pytest.approx(variance[4:].sum(), rel=0.01)
    assert cache.record["kept_variance"] == 1.0


def test_statistics_come_from_the_fit_images_only(make_cameras, tmp_path):
    cameras, teacher = make_cameras(6, size=SIZE), make_small_teacher()
    cache = build_feature_cache(
        cameras, teacher, tmp_path, size=SIZE, components=None, fit_tokens=["token0", "token2"]
    )
    raw = all_features([cameras[0], cameras[2]], teacher)
    np.testing.assert_allclose(cache.reduction().mean, raw.mean((0, 2, 3)), rtol=1e-4)
    assert cache.record["fit_tokens"] == ["token0", "token2"]
    some = build_feature_cache(cameras, teacher, tmp_path / "b", size=SIZE, components=2, fit_images=3)
    assert len(some.record["fit_tokens"]) == 3
    # which images they are counts, not their names
    named = [replace(camera, token=f"other{i}") for i, camera in enumerate(cameras)]
    again = build_feature_cache(named, teacher, tmp_path / "c", size=SIZE, components=2, fit_images=3)
    key, others = (made.record["key"] for made in (some, again))
    assert key == others
    assert key["fit_images_sha256"] != cache.record["key"]["fit_images_sha256"]


def test_another_log_is_reduced_to_the_directions_of_the_first(make_cameras, tmp_path):
    cameras, teacher = make_cameras(6, size=SIZE), make_small_teacher()
    first = build_feature_cache(cameras[:3], teacher, tmp_path / "first", size=SIZE, components=3)
    options = {"size": SIZE, "reduction_of": first.folder}
    second = build_feature_cache(cameras[3:], teacher, tmp_path / "second", **options)
    reduction = first.reduction()
    raw = all_features(cameras[3:], teacher)
    centred = raw - reduction.mean.double().numpy()[:, None, None]
    expected = np.einsum("kc,nchw->nkhw", reduction.basis.double().numpy(), centred)
    got = np.stack([second.read(camera.token) for camera in cameras[3:]])
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)
    assert second.record["key"] == first.record["key"]
    build_feature_cache(cameras[3:], make_small_teacher(limit=0), tmp_path / "second", **options)  # kept
    with pytest.raises(InputError, match="reduction was taken from another cache; name that one again"):
        build_feature_cache(cameras[3:], teacher, tmp_path / "second", size=SIZE, components=3)
    other = build_feature_cache(cameras[:2], teacher, tmp_path / "other", size=SIZE, components=3)
    with pytest.raises(InputError, match=r"second: holds features of another reduction than that of .*other"):
        build_feature_cache(cameras[3:], teacher, tmp_path / "second", size=SIZE, reduction_of=other.folder)
    with pytest.raises(InputError, match="first: has features of made, not of made with the same weights"):
        build_feature_cache(cameras, make_small_teacher(sha256="x"), tmp_path / "third", **options)


def test_a_stopped_build_goes_on_where_it_was(make_cameras, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache_build, "_KEPT_BYTES", 0)  # a pass an image after the fit
    cameras = make_cameras(6, size=SIZE)
    whole = build_feature_cache(cameras, make_small_teacher(), tmp_path / "whole", size=SIZE, components=4)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):  # in the statistics: nothing counts yet
        build_feature_cache(cameras, make_small_teacher(limit=2), folder, size=SIZE, components=4)
    with pytest.raises(MissingFileError, match="no feature cache here; make it with `superflow prepare"):
        FeatureCache.open(folder)
    with pytest.raises(KeyboardInterrupt):
        build_feature_cache(cameras, make_small_teacher(limit=6 + 4), folder, size=SIZE, components=4)
    stopped = FeatureCache.open(folder)
    assert stopped.lacking(camera.token for camera in cameras) == ["token4", "token5"]
    teacher = make_small_teacher()
    with caplog.at_level(logging.INFO):
        resumed = build_feature_cache(cameras, teacher, folder, size=SIZE, components=4)
    assert teacher.network.seen == 2
    assert "4 of 6 are there already" in caplog.text
    for camera in cameras:
        np.testing.assert_array_equal(resumed.read(camera.token), whole.read(camera.token))
    idle = make_small_teacher()
    build_feature_cache(cameras, idle, folder, size=SIZE, components=4)
    assert idle.network.seen == 0
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_features_of_something_else_are_refused(make_cameras, tmp_path):
    cameras = make_cameras(3, size=SIZE)
    build_feature_cache(cameras, make_small_teacher(), tmp_path, size=SIZE, components=2)
    with pytest.raises(InputError, match=r"other teacher .*choose another folder or delete"):
        build_feature_cache(cameras, make_small_teacher(sha256="other"), tmp_path, size=SIZE, components=2)
    with pytest.raises(InputError, match=r"other size \(\[32, 48\] instead of \[32, 64\]\)"):
        build_feature_cache(cameras, make_small_teacher(), tmp_path, size=(32, 64), components=2)
    with pytest.raises(InputError, match="other components"):
        build_feature_cache(cameras, make_small_teacher(), tmp_path, size=SIZE, components=3)
    refused = r"its reduction was fitted on 2 images \(first: token1\) that are not among those that may be fitted on"
    with pytest.raises(InputError, match=refused):
        build_feature_cache(
            cameras, make_small_teacher(), tmp_path, size=SIZE, components=2, fit_tokens=["token0"]
        )
    with pytest.raises(InputError, match="its reduction was fitted on 1 images"):
        build_feature_cache(cameras[:2], make_small_teacher(), tmp_path, size=SIZE, components=2)


def test_travels_to_workers_without_its_values(make_cameras, tmp_path):
    cameras = make_cameras(3, size=SIZE)
    cache = build_feature_cache(cameras, make_small_teacher(), tmp_path, size=SIZE, components=2)
    cache.read("token0")
    data = pickle.dumps(cache)
    assert len(data) < 3000
    np.testing.assert_array_equal(pickle.loads(data).read("token2"), cache.read("token2"))
    with pytest.raises(ValueError, match="read-only"):
        cache.read("token0")[:] = 0


def test_batches_and_threads_do_not_change_the_features(make_cameras, tmp_path):
    cameras = make_cameras(5, size=SIZE)
    options = {"size": SIZE, "components": 3}
    one = build_feature_cache(cameras, make_small_teacher(), tmp_path / "1", **options)
    before = torch.get_num_threads()
    two = build_feature_cache(
        cameras, make_small_teacher(), tmp_path / "2", batch=2, threads=before + 1, **options
    )
    assert torch.get_num_threads() == before
    for camera in cameras:
        np.testing.assert_allclose(one.read(camera.token), two.read(camera.token), atol=2e-3)


def test_images_are_resized_with_antialiasing(make_cameras, tmp_path):
    (camera,) = make_cameras(1, size=(128, 192))
    teacher = make_small_teacher()
    cache = build_feature_cache([camera], teacher, tmp_path, size=SIZE, components=None)
    small = resize_image(read_image(camera.path), SIZE, antialias=True)
    raw = teacher(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_allclose(cache.read(camera.token), cache.reduction()(raw)[0], atol=2e-3)


def test_a_token_may_hold_blanks(make_cameras, tmp_path):
    cameras = [replace(camera, token=f"front {i}") for i, camera in enumerate(make_cameras(2, size=SIZE))]
    cache = build_feature_cache(cameras, make_small_teacher(), tmp_path / "cache", size=SIZE, components=2)
    assert cache.tokens == ("front 0", "front 1")
    assert cache.read("front 1").shape == (2, *cache.grid)


def test_bad_input_is_named(make_cameras, tmp_path):
    cameras = make_cameras(2, size=SIZE)
    teacher = make_small_teacher()
    with pytest.raises(InputError, match="no image to make features of: the chosen frames have no cameras"):
        build_feature_cache([], teacher, tmp_path / "a", size=SIZE)
    with pytest.raises(InputError, match="2 images with 1 different tokens"):
        build_feature_cache([cameras[0]] * 2, teacher, tmp_path / "a", size=SIZE)
    with pytest.raises(InputError, match="fit_tokens holds 'x'"):
        build_feature_cache(cameras, teacher, tmp_path / "a", size=SIZE, fit_tokens=["x"])
    with pytest.raises(InputError, match=r"components must be in 1\.\.7"):
        build_feature_cache(cameras, teacher, tmp_path / "a", size=SIZE, components=8)
    with pytest.raises(InputError, match="no features of image 'x'"):
        build_feature_cache(cameras, teacher, tmp_path / "b", size=SIZE, components=2).read("x")
    Path(cameras[1].path).unlink()
    with pytest.raises(MissingFileError, match=r"image1\.png: this file is named in the log's tables"):
        build_feature_cache(cameras, teacher, tmp_path / "c", size=SIZE, components=2)
    Path(cameras[1].path).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"image1\.png: is no image that OpenCV can decode"):
        build_feature_cache(cameras, teacher, tmp_path / "c", size=SIZE, components=2)
    cv2.imwrite(cameras[1].path, np.zeros((30, 48, 3), np.uint8))
    with pytest.raises(InputError, match=r"image1\.png: the image is 48 x 30 .* are for 48 x 32"):
        build_feature_cache(cameras, teacher, tmp_path / "c", size=SIZE, components=2)
    (tmp_path / "b" / "features.json").write_text("{")
    with pytest.raises(InputError, match=r"features\.json: is no valid JSON"):
        FeatureCache.open(tmp_path / "b")


def test_a_full_disk_is_an_error_that_leaves_nothing(make_cameras, tmp_path, monkeypatch):
    """A shard has its place before it has its name; the same build goes on when there is space again."""
    cameras, options = make_cameras(2, size=SIZE), {"size": SIZE, "components": 2}

    def full(source: Path, target: Path) -> None:
        if Path(target).parent.name == "shards":
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(writes.os, "replace", full)
        with pytest.raises(
            InputError, match=r"000000\.safetensors: cannot be written \(No space left on device\)"
        ):
            build_feature_cache(cameras, make_small_teacher(), tmp_path / "c", **options)
    assert list((tmp_path / "c" / "shards").iterdir()) == []
    assert len(FeatureCache.open(tmp_path / "c")) == 0
    assert len(build_feature_cache(cameras, make_small_teacher(), tmp_path / "c", **options)) == 2


def test_a_channel_that_hardly_fires_where_it_was_fitted_has_no_infinite_features():
    """A loss would not be finite from the first such image on."""
    fit = ReductionFit(2)
    quiet = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    quiet[:, 1] = 0
    quiet[0, 1, 0, 0] = 1e-3
    fit.add(quiet)
    reduced = fit.finish((1, 1), 2)(torch.full((1, 2, 1, 1), 100.0))
    assert reduced.abs().max() > 65504
    stored = cache_build._halves(reduced)
    assert stored.dtype == np.float16
    assert np.isfinite(stored).all()
    np.testing.assert_array_equal(np.sign(stored), np.sign(reduced.numpy()))
    small = torch.linspace(-9, 9, 12).view(1, 3, 2, 2)
    np.testing.assert_array_equal(cache_build._halves(small), small.numpy().astype(np.float16))


@pytest.mark.parametrize("fitted", [True, False])
def test_features_that_are_not_finite_are_not_kept(make_cameras, tmp_path, fitted, monkeypatch):
    """In float16, in which a GPU computes, a large teacher may overflow."""
    cameras, teacher = make_cameras(3, size=SIZE), make_small_teacher()
    options = {
        "size": SIZE,
        "components": 2,
        "fit_tokens": [camera.token for camera in cameras[: 2 + fitted]],
    }
    forward = TwoScales.forward

    def overflown(self, images: Tensor) -> Tensor:
        maps = forward(self, images)
        return maps * torch.inf if self.seen == 3 else maps

    monkeypatch.setattr(TwoScales, "forward", overflown)
    with pytest.raises(InputError, match=rf"{cameras[2].path}: made sees what is not finite in this image"):
        build_feature_cache(cameras, teacher, tmp_path / "c", **options)
    monkeypatch.setattr(TwoScales, "forward", forward)
    cache = build_feature_cache(cameras, make_small_teacher(), tmp_path / "c", **options)
    assert all(np.isfinite(cache.read(camera.token)).all() for camera in cameras)


def test_a_dead_channel_stays_zero_and_the_order_of_images_plays_no_part():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 5, 3, 4, generator=generator) + 1000  # far from zero: sums must not cancel
    maps[:, 2] = 7.0
    fits = [ReductionFit(5), ReductionFit(5)]
    for fit, order in zip(fits, ([0, 1, 2, 3], [3, 1, 0, 2])):
        for i in order:
            fit.add(maps[i : i + 1])
    first, second = (fit.finish((2, 3), 4) for fit in fits)
    torch.testing.assert_close(first.basis, second.basis, rtol=1e-3, atol=1e-3)
    assert not first.basis[:, 2].any()
    reduced = first(maps)
    assert reduced.isfinite().all()
    torch.testing.assert_close(reduced.mean((0, 2, 3)), torch.zeros(4), atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="no features were added"):
        ReductionFit(3).finish((3,), 2)


def test_reduction_survives_the_disk(tmp_path):
    reduction = Reduction(torch.arange(3.0), torch.eye(3)[:2], 0.75)
    reduction.save(tmp_path / "r.safetensors")
    again = Reduction.load(tmp_path / "r.safetensors")
    torch.testing.assert_close((again.mean, again.basis), (reduction.mean, reduction.basis))
    assert again.kept_variance == 0.75
    assert again.channels == 2
