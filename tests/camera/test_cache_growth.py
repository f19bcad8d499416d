"""A feature cache belongs to its maker and to each image: logs grow, images are replaced, builders are killed."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from superflow.camera import shards
from superflow.camera.cache import FeatureCache, hash_of_file
from superflow.camera.cache_build import build_feature_cache
from superflow.camera.reduction import Reduction
from superflow.camera.teacher import Teacher
from superflow.errors import InputError
from superflow.files.writes import building

SIZE = (32, 48)


class Patches(nn.Module):
    """Four channels; the process dies at image ``dies_at``, as of a power failure."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4, bias=False)
        self.conv.weight.data = torch.randn(
            self.conv.weight.shape, generator=torch.Generator().manual_seed(0)
        )
        self.dies_at, self.seen = dies_at, 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if self.dies_at is not None and self.seen >= self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.conv(images)


def make_patches(dies_at: int | None = None) -> Teacher:
    source = {"weights": "made", "sha256": "abc"}
    network = Patches(dies_at)
    return Teacher(network, name="made", scale_channels=(4,), stride=4, multiple=4, source=source)


def build(cameras, folder: Path, teacher: Teacher | None = None, **options) -> FeatureCache:
    given = {"size": SIZE, "components": 2, "fit_tokens": ["token0", "token1"], **options}
    return build_feature_cache(cameras, teacher or make_patches(), folder, **given)


def values(cache: FeatureCache, tokens) -> list[bytes]:
    return [cache.read(token).tobytes() for token in tokens]


def repaint(path: str, value: int) -> None:
    cv2.imwrite(path, np.full((*SIZE, 3), value, np.uint8))


@pytest.fixture
def two_a_shard(monkeypatch):
    monkeypatch.setattr(shards, "_MOST_IMAGES", 2)


def test_a_log_that_grows_keeps_its_features(make_cameras, tmp_path, two_a_shard):
    cameras = make_cameras(7, size=SIZE)
    tokens = [camera.token for camera in cameras]
    cache = build(cameras[:3], tmp_path / "grown")
    files = {path: path.read_bytes() for path in (tmp_path / "grown").rglob("*") if path.is_file()}
    teacher = make_patches()
    shuffled = random.Random(0).sample(cameras, 7)
    grown = build(shuffled, tmp_path / "grown", teacher)
    assert teacher.network.seen == 4
    assert all(path.read_bytes() == content for path, content in files.items())
    assert grown.record == cache.record
    alone = build(cameras, tmp_path / "alone")
    assert values(grown, tokens) == values(alone, tokens)
    # what is no longer asked for stays
    assert len(build(cameras[:2], tmp_path / "grown", make_patches(dies_at=1))) == 7
    assert cache.tokens == tuple(tokens[:3])  # a reader keeps what it has opened
    assert values(cache, tokens[:3]) == values(alone, tokens[:3])


def test_a_replaced_image_is_made_anew_and_no_other(make_cameras, tmp_path, two_a_shard, caplog):
    cameras = make_cameras(5, size=SIZE)
    tokens = [camera.token for camera in cameras]
    before = values(build(cameras, tmp_path / "cache"), tokens)
    repaint(cameras[3].path, 90)
    os.utime(cameras[4].path)  # another time, the same image
    teacher = make_patches()
    with caplog.at_level(logging.INFO):
        cache = build(cameras, tmp_path / "cache", teacher)
    assert teacher.network.seen == 1
    assert (
        "1 images have changed since their features were made (first: token3); they are made" in caplog.text
    )
    after = values(cache, tokens)
    assert [a == b for a, b in zip(before, after)] == [True, True, True, False, True]
    assert len(cache) == 5
    fresh = build([cameras[3]], tmp_path / "fresh", fit_tokens=None, reduction_of=tmp_path / "cache")
    assert values(cache, ["token3"]) == values(fresh, ["token3"])
    assert build(cameras, tmp_path / "cache", make_patches(dies_at=1)).tokens == cache.tokens


def test_an_image_of_the_basis_may_be_replaced_and_the_basis_stays(make_cameras, tmp_path):
    cameras = make_cameras(3, size=SIZE)
    reduction = build(cameras, tmp_path).reduction()
    repaint(cameras[0].path, 10)
    torch.testing.assert_close(build(cameras, tmp_path).reduction().basis, reduction.basis, rtol=0, atol=0)


def test_a_file_that_takes_the_token_of_another_is_another_image(make_cameras, tmp_path):
    """By the bytes: names and times of files say nothing, neither does the order."""
    cameras = make_cameras(3, size=SIZE)
    first = build(cameras, tmp_path / "cache")
    swapped = [
        replace(cameras[0], path=cameras[2].path),
        cameras[1],
        replace(cameras[2], path=cameras[0].path),
    ]
    before = values(first, ["token0", "token1", "token2"])
    after = values(build(swapped, tmp_path / "cache"), ["token2", "token1", "token0"])
    assert before == after
    copies = [replace(c, path=shutil.copy(c.path, tmp_path / Path(c.path).name)) for c in swapped]
    build(copies, tmp_path / "cache", make_patches(dies_at=1))


def test_a_killed_builder_loses_the_open_shard_alone(make_cameras, tmp_path):
    """Killed at the sixth image after the two that were fitted on: two shards of two are there, one image is lost."""
    cameras = make_cameras(6, size=SIZE)
    code = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); import test_cache_growth as made\n"
        "import superflow.camera.cache_build as b; b._KEPT_BYTES, made.shards._MOST_IMAGES = 0, 2\n"
        "made.build(pickle.load(sys.stdin.buffer), made.Path(sys.argv[2]), made.make_patches(dies_at=8))\n"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "killed")]
    ended = subprocess.run(arguments, input=pickle.dumps(cameras), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(FeatureCache.open(tmp_path / "killed")) == 4
    teacher = make_patches()
    resumed = build(cameras, tmp_path / "killed", teacher)
    assert teacher.network.seen == 2
    tokens = [camera.token for camera in cameras]
    assert values(resumed, tokens) == values(build(cameras, tmp_path / "whole"), tokens)


@pytest.mark.parametrize(
    ("limit", "value", "images"),
    [
        ("_MOST_IMAGES", 3, [3, 2]),
        ("_MOST_BYTES", 2 * 2 * 8 * 12 * 2, [2, 2, 1]),
        ("_MOST_SECONDS", 0.0, [1, 1, 1, 1, 1]),
    ],
)
def test_a_shard_ends_when_enough_lies_in_it(make_cameras, tmp_path, monkeypatch, limit, value, images):
    monkeypatch.setattr(shards, limit, value)
    cache = build(make_cameras(5, size=SIZE), tmp_path)
    assert [len(shards.read_images(path)) for path in shards.shard_paths(cache.folder)] == images


def test_two_builders_of_two_parts_of_a_log_make_one_cache(make_cameras, tmp_path, two_a_shard, caplog):
    cameras, made = make_cameras(8, size=SIZE), []
    parts = [cameras[:5], [*cameras[:2], *cameras[4:]]]
    with caplog.at_level(logging.WARNING), building(tmp_path / "shared"):
        threads = [
            threading.Thread(target=lambda part=part: made.append(build(part, tmp_path / "shared")))
            for part in parts
        ]
        for thread in threads:
            thread.start()
        while sum("another process is building here" in line for line in caplog.messages) < 2:
            threads[0].join(0.001)
    for thread in threads:
        thread.join()
    assert len(made) == 2
    tokens = [camera.token for camera in cameras]
    shared = FeatureCache.open(tmp_path / "shared")
    assert values(shared, tokens) == values(build(cameras, tmp_path / "alone"), tokens)
    # each once
    assert sum(len(load_file(path)["features"]) for path in shards.shard_paths(shared.folder)) == 8


def test_the_last_shard_counts_whatever_there_is(tmp_path):
    """Many shards of random images: every row is that of a plain dictionary that was filled in the same order."""
    generator, expected = np.random.default_rng(0), {}
    cache = build_like(tmp_path)
    for number in [*range(11), 999_999, 1_000_000]:  # one digit more than the name was made for
        tokens = [f"t{i}" for i in generator.permutation(9)[: generator.integers(1, 6)]]
        features = generator.standard_normal((len(tokens), 2, 8, 12)).astype(np.float16)
        about = {
            "reduction_sha256": cache.record["reduction_sha256"],
            "tokens": json.dumps(tokens),
            "images": json.dumps(
                [{"file_bytes": number, "time_ns": i, "sha256": ""} for i in range(len(tokens))]
            ),
        }
        save_file(
            {"features": features}, cache.folder / "shards" / f"{number:06d}.safetensors", metadata=about
        )
        expected.update({t: (f.tobytes(), number, i) for i, (t, f) in enumerate(zip(tokens, features))})
    cache = FeatureCache.open(tmp_path)
    identities = cache.identities()
    assert set(cache.tokens) == expected.keys() == identities.keys()
    for token, (content, number, place) in expected.items():
        assert cache.read(token).tobytes() == content
        assert (identities[token].file_bytes, identities[token].time_ns) == (number, place)


def build_like(folder: Path) -> FeatureCache:
    """A cache without an image: its shards are the test's."""
    (folder / "shards").mkdir(parents=True)
    Reduction(torch.zeros(4), torch.eye(4)[:2], 1.0).save(folder / "reduction.safetensors")
    key = {"teacher": {}, "size": [32, 48], "components": 2, "fit_images_sha256": ""}
    record = {"schema": 2, "key": key, "fit_tokens": [], "channels": 2, "grid": [8, 12]}
    record["reduction_sha256"] = hash_of_file(folder / "reduction.safetensors")
    (folder / "features.json").write_text(json.dumps(record))
    return FeatureCache.open(folder)


GOOD = {"tokens": ["a", "b"], "images": [{"file_bytes": 1, "time_ns": 1, "sha256": "0"}] * 2}


@pytest.mark.parametrize(
    ("features", "about", "message"),
    [
        (np.zeros((2, 2, 8, 13), np.float16), {}, "holds features of another cache; delete its folder"),
        (np.zeros((2, 2, 8, 12), np.float32), {}, "holds features of another cache; delete its folder"),
        (np.zeros((), np.float16), {}, "holds features of another cache; delete its folder"),
        (None, {"reduction_sha256": "of another"}, "holds features of another cache; delete its folder"),
        (None, {"tokens": ["a"]}, "does not say which images its features are of; delete this file"),
        (None, {"tokens": ["a", 1]}, "does not say which images its features are of; delete this file"),
        (None, {"tokens": None}, "does not say which images its features are of; delete this file"),
        (None, {"images": [{}, {}]}, "does not say which images its features are of; delete this file"),
        (None, {"images": GOOD["images"][:1]}, "does not say which images its features are of; delete this"),
        ("renamed", {}, "is damaged .*; delete this file and prepare the features again"),
    ],
)
def test_a_shard_that_is_not_what_it_should_be_is_named(make_cameras, tmp_path, features, about, message):
    cache = build(make_cameras(2, size=SIZE), tmp_path / "cache")
    told = {"reduction_sha256": cache.record["reduction_sha256"], **GOOD, **about}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    name = "other" if isinstance(features, str) else "features"
    tensor = features if isinstance(features, np.ndarray) else np.zeros((2, 2, 8, 12), np.float16)
    save_file({name: tensor}, tmp_path / "cache" / "shards" / "000001.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=rf"000001\.safetensors: {message}"):
        FeatureCache.open(tmp_path / "cache").identities()


def test_features_without_their_record_are_not_taken_for_those_of_another_basis(make_cameras, tmp_path):
    cameras = make_cameras(4, size=SIZE)
    build(cameras, tmp_path)
    (tmp_path / "features.json").unlink()
    with pytest.raises(
        InputError, match="holds features of another cache; delete its folder and prepare it again"
    ):
        build(cameras, tmp_path, fit_tokens=["token2", "token3"])


def test_a_cache_of_an_earlier_version_is_named(tmp_path):
    (tmp_path / "features.json").write_text('{"schema": 1}')
    with pytest.raises(
        InputError, match="is of an earlier version, whose features do not say which image each is of"
    ):
        FeatureCache.open(tmp_path)


def test_other_files_beside_the_shards_are_let_lie(make_cameras, tmp_path):
    cameras = make_cameras(2, size=SIZE)
    build(cameras, tmp_path)
    for name in (
        ".000001.safetensors.0123456789abcdef.part",
        "notes.txt",
        "1.safetensors",
        "000001.safetensors.bak",
    ):
        (tmp_path / "shards" / name).write_bytes(b"x")
    assert len(FeatureCache.open(tmp_path)) == 2
