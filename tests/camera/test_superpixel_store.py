"""Superpixels on disk: resumable, tied to what made them, checked against their images."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_files import read_image

from superflow.camera.cache_build import build_feature_cache
from superflow.camera.identity import ImageIdentity
from superflow.camera.superpixels import (
    IGNORE,
    make_superpixels,
    read_record,
    read_superpixels,
    write_superpixels,
)
from superflow.camera.superpixels.map_file import MapNote, encode_map, read_map, read_note
from superflow.camera.teacher import make_teacher
from superflow.datasets.frame import Camera
from superflow.errors import InputError, MissingFileError

SIZE = (64, 96)


def test_writes_what_the_provider_makes_and_a_record(make_cameras, tmp_path):
    cameras = make_cameras(3)
    record = write_superpixels(cameras, tmp_path / "out", provider="slic", segments=40)
    for camera in cameras:
        stored = cv2.imread(str(tmp_path / "out" / f"{camera.token}.png"), cv2.IMREAD_UNCHANGED)
        assert (stored.dtype, stored.shape) == (np.uint8, (32, 48))  # the size that SLIC works at; 40 ids
        expected = make_superpixels("slic", read_image(camera.path), segments=40)
        np.testing.assert_array_equal(read_superpixels(tmp_path / "out", camera.token, SIZE), expected)
    assert read_record(tmp_path / "out") == record
    assert record["options"]["segments"] == 40
    assert (record["provider"], record["ignore"]) == ("slic", IGNORE)
    assert record["shared_ids"] is False
    assert {"version", "made_by", "schema"} <= record.keys()


def test_goes_on_where_it_stopped(make_cameras, tmp_path, caplog):
    cameras = make_cameras(4)
    missing = Path(cameras[2].path)
    image = missing.read_bytes()
    missing.unlink()
    with pytest.raises(MissingFileError, match=r"image2\.png: this file is named in the log's tables"):
        write_superpixels(cameras, tmp_path / "out", segments=20)
    missing.write_bytes(image)
    first = tmp_path / "out" / "token0.png"
    times = first.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        write_superpixels(cameras, tmp_path / "out", segments=20)
    assert "2 of 4 are there already" in caplog.text
    assert first.stat().st_mtime_ns == times
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["superpixels.json", *(f"token{i}.png" for i in range(4))]


def test_workers_make_the_same_files(make_cameras, tmp_path):
    cameras = make_cameras(3)
    write_superpixels(cameras, tmp_path / "one", segments=20)
    write_superpixels(cameras, tmp_path / "two", segments=20, workers=2)
    for i in range(3):
        assert (tmp_path / "one" / f"token{i}.png").read_bytes() == (
            tmp_path / "two" / f"token{i}.png"
        ).read_bytes()
    Path(cameras[1].path).write_bytes(b"")
    (tmp_path / "two" / "token1.png").unlink()
    (tmp_path / "two" / "token2.png").unlink()
    with pytest.raises(InputError, match=r"image1\.png: is no image that OpenCV can decode"):
        write_superpixels(cameras, tmp_path / "two", segments=20, workers=2)


def test_a_folder_holds_one_kind_of_regions(make_cameras, tmp_path):
    cameras = make_cameras(2)
    write_superpixels(cameras, tmp_path, segments=20)
    with pytest.raises(InputError, match=r"other options: segments .*choose another folder or delete"):
        write_superpixels(cameras, tmp_path, segments=21)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="other provider"):
        write_superpixels(cameras, tmp_path, provider="masks", source=tmp_path / "masks")


def test_cluster_codebook_is_kept_for_a_resumed_run(make_cameras, tmp_path):
    cameras = make_cameras(3)
    options = {"teacher": "filter_bank", "clusters": 4, "segments": 30, "dims": 8, "size": SIZE}
    record = write_superpixels(cameras[:2], tmp_path / "out", provider="clusters", **options)
    assert record["shared_ids"] is True
    assert record["made_by"]["teacher"]["weights"] == "no weights"
    assert (tmp_path / "out" / "codebook.safetensors").is_file()
    again = write_superpixels(cameras, tmp_path / "out", provider="clusters", **options)
    assert again == record
    assert max(read_superpixels(tmp_path / "out", f"token{i}", SIZE).max() for i in range(3)) < 4


def test_clusters_go_on_with_the_features_that_their_codebook_is_of(make_cameras, tmp_path):
    """Those of the same teacher reduced otherwise have other channels under the same numbers."""
    cameras = make_cameras(3)
    teacher = make_teacher("filter_bank")
    for name, fit in (("first", "token0"), ("other", "token2")):
        build_feature_cache(cameras, teacher, tmp_path / name, size=SIZE, components=8, fit_tokens=[fit])
    build_feature_cache(cameras, teacher, tmp_path / "whole", size=SIZE, components=None)
    options = {"clusters": 4, "segments": 30, "size": SIZE}

    def write(count: int, **given) -> dict:
        return write_superpixels(cameras[:count], tmp_path / "out", provider="clusters", **options, **given)

    record = write(1, features=tmp_path / "first")
    for given, message in (
        ({"features": tmp_path / "other"}, "other made_by: features: reduction_sha256"),
        ({"features": tmp_path / "whole"}, "other made_by: features: reduction_sha256"),
        ({"teacher": "filter_bank"}, "other options: teacher|other options: features"),
    ):
        with pytest.raises(InputError, match=message):
            write(2, **given)
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    assert write(2, features=tmp_path / "moved") == record
    path = tmp_path / "out" / "superpixels.json"
    before = json.loads(path.read_text())
    del before["made_by"]["features"]  # as an earlier version wrote it
    path.write_text(json.dumps(before))
    write(3, features=tmp_path / "first")


def test_clusters_are_not_made_of_features_of_a_replaced_image(make_cameras, tmp_path):
    cameras = make_cameras(3)
    build_feature_cache(cameras, make_teacher("filter_bank"), tmp_path / "cache", size=SIZE, components=8)
    options = {"provider": "clusters", "features": tmp_path / "cache", "clusters": 4, "segments": 30}
    write_superpixels(cameras, tmp_path / "out", **options)
    shutil.copy(cameras[0].path, cameras[1].path)
    with pytest.raises(InputError, match=r"cache: its features of token1 are of another image \(1 such"):
        write_superpixels(cameras, tmp_path / "out", **options)
    build_feature_cache(cameras, make_teacher("filter_bank"), tmp_path / "cache", size=SIZE, components=8)
    write_superpixels(cameras, tmp_path / "out", **options)


def test_maps_that_do_not_fit_are_refused(make_cameras, tmp_path):
    write_superpixels(make_cameras(1), tmp_path, segments=20)
    with pytest.raises(
        InputError, match=r"token0\.png: the superpixels are 64 x 96 .* but their image is 32 x 48"
    ):
        read_superpixels(tmp_path, "token0", (32, 48))
    with pytest.raises(MissingFileError, match=r"other\.png: this file of region ids does not exist"):
        read_superpixels(tmp_path, "other", SIZE)
    whole = (tmp_path / "token0.png").read_bytes()
    (tmp_path / "token0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"token0\.png: cannot be read as PNG"):
        read_superpixels(tmp_path, "token0", SIZE)
    with pytest.raises(
        MissingFileError, match=r"superpixels\.json: there is no such file; make superpixels with `superflow"
    ):
        read_record(tmp_path / "nowhere")
    record = json.loads((tmp_path / "superpixels.json").read_text())
    (tmp_path / "superpixels.json").write_text(json.dumps(record | {"schema": 99}))
    with pytest.raises(InputError, match="schema 99 instead of 2"):
        read_record(tmp_path)


def times_of(folder: Path, names: list[str]) -> dict[str, int]:
    return {name: (folder / f"{name}.png").stat().st_mtime_ns for name in names}


def replace_image(camera: Camera, seed: int = 9) -> None:
    """Another picture of the same size under the same name, with the time of the old one."""
    state = Path(camera.path).stat()
    cv2.imwrite(camera.path, np.random.default_rng(seed).integers(0, 255, (*camera.size, 3), dtype=np.uint8))
    os.utime(camera.path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_replaced_image_loses_its_own_map_and_no_other(make_cameras, tmp_path, caplog):
    cameras, names = make_cameras(3), ["token0", "token1", "token2"]
    write_superpixels(cameras, tmp_path / "out", segments=20)
    before = times_of(tmp_path / "out", names)
    replace_image(cameras[1])
    with caplog.at_level(logging.INFO):
        write_superpixels(cameras, tmp_path / "out", segments=20)
    after = times_of(tmp_path / "out", names)
    assert [name for name in names if after[name] != before[name]] == ["token1"]
    assert "1 maps are damaged, or of images or masks that have changed since (first: token1)" in caplog.text
    expected = make_superpixels("slic", cameras[1].read(), segments=20)
    np.testing.assert_array_equal(read_superpixels(tmp_path / "out", "token1", SIZE), expected)


def test_a_log_that_grows_and_a_copy_of_its_images_make_nothing_anew(make_cameras, tmp_path):
    cameras = make_cameras(3)
    write_superpixels(cameras[:2], tmp_path / "out", segments=20)
    before = times_of(tmp_path / "out", ["token0", "token1"])
    for camera in cameras:  # as a copy to another disk does
        os.utime(camera.path, ns=(1, 1))
    write_superpixels(cameras, tmp_path / "out", segments=20)
    assert times_of(tmp_path / "out", ["token0", "token1"]) == before
    assert (tmp_path / "out" / "token2.png").is_file()


@pytest.mark.parametrize("content", [b"", b"no PNG", None])
def test_a_map_that_does_not_say_its_image_is_made_anew(make_cameras, tmp_path, content):
    """Such as one of another program, whose ids nobody knows."""
    (camera,) = make_cameras(1)
    write_superpixels([camera], tmp_path / "out", segments=20)
    path = tmp_path / "out" / "token0.png"
    whole = path.read_bytes()
    path.write_bytes(cv2.imencode(".png", np.zeros(SIZE, np.uint16))[1] if content is None else content)
    write_superpixels([camera], tmp_path / "out", segments=20)
    assert path.read_bytes() == whole


def test_masks_are_known_by_content_and_not_by_folder(make_cameras, tmp_path):
    cameras = make_cameras(2)
    for i in range(2):
        (tmp_path / "a").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "a" / f"token{i}.png"), np.full(SIZE, i, np.uint8))
    write_superpixels(cameras, tmp_path / "out", provider="masks", source=tmp_path / "a")
    before = times_of(tmp_path / "out", ["token0", "token1"])
    (tmp_path / "a").rename(tmp_path / "b")
    cv2.imwrite(str(tmp_path / "b" / "token1.png"), np.full(SIZE, 7, np.uint8))
    write_superpixels(cameras, tmp_path / "out", provider="masks", source=tmp_path / "b")
    after = times_of(tmp_path / "out", ["token0", "token1"])
    assert (after["token0"] == before["token0"], after["token1"] == before["token1"]) == (True, False)
    assert (read_superpixels(tmp_path / "out", "token1", SIZE) == 7).all()


def test_a_folder_of_the_old_form_names_the_command(make_cameras, tmp_path):
    record = write_superpixels(make_cameras(1), tmp_path, segments=20)
    (tmp_path / "superpixels.json").write_text(json.dumps(record | {"schema": 1}))
    with pytest.raises(InputError, match=r"earlier version.*`superflow prepare superpixels`$"):
        read_record(tmp_path)


def test_tokens_must_be_file_names(make_cameras, tmp_path):
    from dataclasses import replace

    camera = make_cameras(1)[0]
    for token in ("a/b", "..", "", ".hidden", "a\\b", "a\0", "n" * 252, "\ud800"):
        with pytest.raises(
            InputError, match=r"must be unique and fit for a file name|cannot be the name of a file"
        ):
            write_superpixels([replace(camera, token=token)], tmp_path)
    with pytest.raises(InputError, match="must be unique"):
        write_superpixels([camera, camera], tmp_path)


@pytest.mark.parametrize("most", [0, 255, 256, 65535])
def test_ids_are_kept_in_as_many_bits_as_they_need(tmp_path, most):
    ids = np.random.default_rng(0).integers(0, most + 1, (6, 8)).astype(np.uint16)
    ids[0, 0] = most
    path, note = tmp_path / "map.png", MapNote((12, 16), ImageIdentity(1, 2, "0" * 64))
    path.write_bytes(encode_map(ids, note))
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == (np.uint8 if most <= 255 else np.uint16)
    found = read_map(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, ids.repeat(2, axis=0).repeat(2, axis=1))
    assert read_note(path) == note
