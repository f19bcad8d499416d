"""Superpixels on disk: resumable, tied to what made them, checked against their images."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from superflow.camera.superpixels import (
    IGNORE,
    make_superpixels,
    read_record,
    read_superpixels,
    write_superpixels,
)
from superflow.datasets.images import read_image
from superflow.errors import InputError, MissingFileError

SIZE = (64, 96)


def test_writes_what_the_provider_makes_and_a_record(make_cameras, tmp_path):
    cameras = make_cameras(3)
    record = write_superpixels(cameras, tmp_path / "out", provider="slic", segments=40, index_hash="abc")
    for camera in cameras:
        stored = cv2.imread(str(tmp_path / "out" / f"{camera.token}.png"), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        expected = make_superpixels("slic", read_image(camera.path), segments=40)
        np.testing.assert_array_equal(read_superpixels(tmp_path / "out", camera.token, SIZE), expected)
    assert read_record(tmp_path / "out") == record
    assert record["options"]["segments"] == 40
    assert (record["provider"], record["ignore"], record["index_hash"]) == ("slic", IGNORE, "abc")
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
    write_superpixels(cameras, tmp_path, segments=20, index_hash="a")
    with pytest.raises(InputError, match=r"another options .*choose another folder or delete"):
        write_superpixels(cameras, tmp_path, segments=21, index_hash="a")
    with pytest.raises(InputError, match="another index_hash"):
        write_superpixels(cameras, tmp_path, segments=20, index_hash="b")
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="another provider"):
        write_superpixels(cameras, tmp_path, provider="masks", source=tmp_path / "masks", index_hash="a")


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
    with pytest.raises(InputError, match="schema 99 instead of 1"):
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
