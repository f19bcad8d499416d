"""Half a cache is one sentence with the way out, whichever file is missing, cut off or of another cache."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from superflow.camera.cache import FeatureCache
from superflow.camera.cache_build import build_feature_cache
from superflow.camera.superpixels import read_record, read_superpixels, write_superpixels
from superflow.camera.teacher import Teacher
from superflow.errors import InputError
from superflow.files.writes import building

SIZE = (32, 48)
WAY_OUT = (
    "; (delete its folder and prepare it again|check the disk and its rights|delete this file and prepare the features "
    "again, which makes only its images anew)$"
)


def small_teacher() -> Teacher:
    network = nn.Conv2d(3, 4, 4, stride=4, bias=False)
    network.weight.data = torch.randn(network.weight.shape, generator=torch.Generator().manual_seed(0))
    source = {"weights": "made", "sha256": "abc"}
    return Teacher(network, name="made", scale_channels=(4,), stride=4, multiple=4, source=source)


@pytest.fixture(scope="module")
def cameras(four_cameras):
    return four_cameras


def build(cameras, folder) -> FeatureCache:
    return build_feature_cache(cameras, small_teacher(), folder, size=SIZE, components=2)


@pytest.fixture(scope="module")
def whole(cameras, tmp_path_factory) -> dict[str, Path]:
    """A whole feature cache and a whole folder of superpixels from it; to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    build(cameras, folder / "features")
    options = {"features": str(folder / "features"), "clusters": 3, "segments": 20}
    write_superpixels(cameras, folder / "superpixels", provider="clusters", **options)
    return {"features": folder / "features", "superpixels": folder / "superpixels", "options": options}


def remove(path: Path) -> None:
    path.unlink()


def cut(share: float):
    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return damage


def drop_last(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES = {
    "missing": remove,
    "empty": cut(0),
    "a tenth": cut(0.1),
    "half": cut(0.5),
    "without its last byte": drop_last,
    "longer": lengthen,
    "a folder": into_folder,
    "a link to itself": into_loop,
}
SHARD = "shards/000000.safetensors"
FEATURE_FILES = ("features.json", "reduction.safetensors", SHARD)


@pytest.mark.parametrize("reader", ["open", "build"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FEATURE_FILES)
def test_half_a_feature_cache_is_named_with_the_way_out(whole, cameras, tmp_path, name, damage, reader):
    folder = tmp_path / "features"
    shutil.copytree(whole["features"], folder)
    DAMAGES[damage](folder / name)
    if name == "features.json" and damage == "missing":
        if reader == "build":  # nothing says that there is a cache: it is built
            np.testing.assert_array_equal(
                build(cameras, folder).read(cameras[0].token),
                FeatureCache.open(whole["features"]).read(cameras[0].token),
            )
            return
        with pytest.raises(
            InputError, match=r"features\.json: no feature cache here; make it with `superflow"
        ):
            FeatureCache.open(folder)
        return
    if name == SHARD and damage == "missing":  # what is lost is not there, and is made again
        if reader == "open":
            assert len(FeatureCache.open(folder)) == 0
        else:
            assert len(build(cameras, folder)) == len(cameras)
        return
    with pytest.raises(InputError, match=rf"{name}: .*{WAY_OUT}") as caught:
        FeatureCache.open(folder) if reader == "open" else build(cameras, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (SHARD, "000000.safetensors: is damaged"),
        ("reduction.safetensors", "reduction.safetensors: is damaged"),
        ("features.json", "features.json: is no valid JSON"),
    ],
)
def test_zeros_in_place_of_a_file_are_named(whole, tmp_path, name, message):
    """What some file systems leave after a power failure."""
    shutil.copytree(whole["features"], tmp_path / "features")
    zero(tmp_path / "features" / name)
    with pytest.raises(InputError, match=message):
        FeatureCache.open(tmp_path / "features")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 99},
        {"key": None},
        {"key": {}},
        {"key": {"teacher": {}, "size": [32, 48], "components": 2}},
        {"reduction_sha256": None},
        {"fit_tokens": "token0"},
        {"fit_tokens": [0]},
        {"channels": -4},
        {"channels": None},
        {"grid": [8]},
        {"grid": None},
        {"grid": [8, 1.5]},
    ],
)
def test_a_record_that_lacks_what_readers_need_is_named(whole, tmp_path, change):
    shutil.copytree(whole["features"], tmp_path / "features")
    path = tmp_path / "features" / "features.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(
        InputError, match=rf"features\.json: (schema 99|lacks what a record of features holds).*{WAY_OUT}"
    ):
        FeatureCache.open(tmp_path / "features")


def test_a_cache_that_is_cut_off_while_it_is_in_use_is_named(whole, cameras, tmp_path):
    """A worker maps the file long after the cache was opened."""
    shutil.copytree(whole["features"], tmp_path / "features")
    cache = FeatureCache.open(tmp_path / "features")
    drop_last(tmp_path / "features" / SHARD)
    with pytest.raises(InputError, match=rf"000000\.safetensors: is damaged .*{WAY_OUT}"):
        cache.read(cameras[0].token)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "missing"])
@pytest.mark.parametrize("name", ["superpixels.json", "codebook.safetensors", "token0.png"])
def test_half_a_folder_of_superpixels_is_named_with_the_way_out(whole, cameras, tmp_path, name, damage):
    folder = tmp_path / "superpixels"
    shutil.copytree(whole["superpixels"], folder)
    path = folder / name
    assert path.is_file()
    DAMAGES[damage](path)
    if name == "token0.png" and damage in ("longer", "without its last byte"):  # every pixel is there
        before = read_superpixels(whole["superpixels"], "token0", SIZE)
        np.testing.assert_array_equal(read_superpixels(folder, "token0", SIZE), before)
        return
    use = {"token0.png": lambda: read_superpixels(folder, "token0", SIZE)}
    again = partial(write_superpixels, cameras, folder, provider="clusters", **whole["options"])
    with pytest.raises(InputError, match=rf"{name}: .*; (delete|check the disk)") as caught:
        use.get(name, again)()
    assert "\n" not in str(caught.value)
    if name == "superpixels.json":
        with pytest.raises(InputError, match=r"superpixels\.json: "):
            read_record(folder)


def test_every_cut_of_a_map_is_named(whole, tmp_path):
    content = (whole["superpixels"] / "token0.png").read_bytes()
    before = read_superpixels(whole["superpixels"], "token0", SIZE)
    for length in range(len(content)):
        (tmp_path / "token0.png").write_bytes(content[:length])
        try:
            regions = read_superpixels(tmp_path, "token0", SIZE)
        except InputError as error:
            assert "token0.png: cannot be read as PNG" in str(error)  # noqa: PT017
        else:  # only the end of the last block, checksums and the end mark are cut off
            np.testing.assert_array_equal(regions, before)
            assert length >= len(content) - 24


# --- several builders


def test_two_builders_at_the_same_time_make_one_cache(cameras, tmp_path, caplog):
    made, expected = [], build(cameras, tmp_path / "alone")
    with caplog.at_level(logging.WARNING), building(tmp_path / "shared"):
        threads = [
            threading.Thread(target=lambda: made.append(build(cameras, tmp_path / "shared")))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while sum("another process is building here" in line for line in caplog.messages) < 2:
            threads[0].join(0.001)
    for thread in threads:
        thread.join()
    assert len(made) == 2
    for camera in cameras:
        for cache in made:
            np.testing.assert_array_equal(cache.read(camera.token), expected.read(camera.token))
    assert sorted(os.listdir(tmp_path / "shared")) == ["features.json", "reduction.safetensors", "shards"]
    assert os.listdir(tmp_path / "shared" / "shards") == ["000000.safetensors"]


def test_two_writers_of_superpixels_at_the_same_time_make_one_folder(cameras, tmp_path):
    records = []
    threads = [
        threading.Thread(
            target=lambda: records.append(write_superpixels(cameras, tmp_path / "maps", segments=20))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records[0] == records[1] == read_record(tmp_path / "maps")
    assert sorted(os.listdir(tmp_path / "maps")) == ["superpixels.json", *(f"token{i}.png" for i in range(4))]


def test_a_whole_cache_is_used_where_nothing_may_be_written(whole, cameras, monkeypatch):
    """Caches are shared over a cluster by one who builds and many who read."""
    from superflow.camera import cache_build
    from superflow.camera.superpixels import store

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(cache_build, "building", refuse)
    monkeypatch.setattr(store, "building", refuse)
    assert build(cameras, whole["features"]).tokens == tuple(camera.token for camera in cameras)
    write_superpixels(cameras, whole["superpixels"], provider="clusters", **whole["options"])


# --- numbers and names


@pytest.mark.parametrize("size", [(0, 32), (32, 0), (-32, 48), (32, 20000)])
def test_a_size_that_no_image_has_is_named_before_the_work(cameras, tmp_path, size):
    with pytest.raises(
        InputError, match=rf"size is {size[0]} x {size[1]}; height and width .* must be 1 to 16384 pixels"
    ):
        build_feature_cache(cameras, small_teacher(), tmp_path / "a", size=size)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("components", [-3, 0, 5])
def test_components_are_named_before_the_work(cameras, tmp_path, components):
    with pytest.raises(InputError, match=rf"components must be in 1\.\.4 .*, not {components}"):
        build_feature_cache(cameras, small_teacher(), tmp_path / "a", size=SIZE, components=components)
    assert os.listdir(tmp_path) == []


def test_superpixels_of_no_image_are_refused(tmp_path):
    message = "no image to cut into superpixels: the chosen frames have no cameras; choose others"
    with pytest.raises(InputError, match=message):
        write_superpixels([], tmp_path / "maps")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("token", ["../escaped", "/escaped", "a/../../escaped", "a/b", "a\\b"])
def test_nothing_is_written_or_read_outside_of_the_folder(cameras, tmp_path, token):
    camera = replace(cameras[0], token=token)
    with pytest.raises(InputError, match=r"must be unique and fit for|cannot be the name of a file in it"):
        write_superpixels([camera], tmp_path / "in" / "maps")
    with pytest.raises(InputError, match="cannot be the name of a file in it"):
        read_superpixels(tmp_path / "in" / "maps", token, SIZE)
    assert os.listdir(tmp_path) == []
