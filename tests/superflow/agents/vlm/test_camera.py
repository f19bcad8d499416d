"""Images beside the LiDAR: their tokens follow those of their scan, and come from a teacher's cache."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm import load_vlm
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.camera import camera_maps
from superflow.errors import InputError

from .asking import ask

CAMERAS = {"cameras": 2, "camera_channels": 3, "camera_cells": [2, 4], "camera_merge": 2}


@pytest.fixture
def seeing(make_vlm):
    """Two images of 2 x 4 cells, so two tokens each."""
    return make_vlm(grid=BevGrid(rows=8, columns=16, cell_m=2.5, tile=4), merge=2, short_merge=4, **CAMERAS)


@pytest.fixture
def scans(scan):
    drawn = torch.Generator().manual_seed(0)
    return [{"points": scan(i), "cameras": torch.randn(2, 3, 2, 4, generator=drawn)} for i in range(3)]


def test_tokens_of_images_against_a_loop(seeing, scans):
    model, _ = seeing
    connector = model.model.camera_connector
    maps = torch.stack([each["cameras"] for each in scans])
    found = connector(maps)
    assert found.shape == (3, 4, 32)
    for scan in range(3):
        for number, (camera, column) in enumerate([(0, 0), (0, 2), (1, 0), (1, 2)]):
            cells = [maps[scan, camera, :, i, column + j] for i in (0, 1) for j in (0, 1)]
            merged = connector.layer_norm(torch.cat(cells))
            token = connector.linear_2(connector.act(connector.linear_1(merged))) + connector.places[number]
            assert torch.allclose(found[scan, number], token, atol=1e-5)


def test_tokens_of_images_follow_those_of_their_scan(seeing, scans):
    model, processor = seeing
    assert processor.tokens_per_scan == 36
    batch = ask(processor, [scans[0], scans[1]], [], [scans[2]])
    assert (batch["input_ids"] == processor.lidar_token_id).sum(1).tolist() == [72, 0, 36]
    tokens = model.get_lidar_features(points=batch["points"], camera_maps=batch["camera_maps"])
    assert torch.equal(tokens[:, 32:], model.model.camera_connector(batch["camera_maps"]))
    text = {name: batch[name] for name in ("input_ids", "attention_mask", "lidar_rows")}
    logits = model(**batch).logits
    assert torch.equal(model(**text, lidar_embeds=tokens).logits, logits)
    other = {**batch, "camera_maps": batch["camera_maps"].flip(0)}
    assert not torch.equal(model(**other).logits, logits)


def test_images_are_never_short(seeing, scans):
    model, processor = seeing
    kept = torch.rand(2, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    waiting = iter(kept)
    processor.route = lambda planes: next(waiting)
    processor.planes = lambda points, to_ego: model.model.get_lidar_planes(points[None])[0].detach()
    batch = ask(processor, [scans[0]], [scans[1]])
    counts = [int(4 * row.sum() + (~row).sum()) for row in kept]
    assert (batch["input_ids"] == processor.lidar_token_id).sum(1).tolist() == [n + 4 for n in counts]
    tokens = model.get_lidar_features(
        pixel_values=batch["pixel_values"], tiles_kept=kept, camera_maps=batch["camera_maps"]
    )
    images = model.model.camera_connector(batch["camera_maps"])
    assert torch.equal(tokens[counts[0] : counts[0] + 4], images[0])
    assert torch.equal(tokens[-4:], images[1])
    assert model(**batch).logits.isfinite().all()


def test_saved_and_loaded(seeing, scans, tmp_path):
    model, processor = seeing
    rows = ask(processor, [scans[0]], [scans[1]])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = load_vlm(tmp_path)
    same = ask(its_processor, [scans[0]], [scans[1]])
    assert torch.equal(same["input_ids"], rows["input_ids"])
    assert torch.equal(again(**same).logits, model(**rows).logits)
    written = model.generate(**rows, max_new_tokens=3, eos_token_id=None)
    assert torch.equal(again.generate(**same, max_new_tokens=3, eos_token_id=None), written)


def test_maps_of_a_log_from_a_cache(small_index):
    """Means over the cells of a larger map, cameras in the order that is asked for."""
    row = int(small_index.rows(None)[0])
    frame = small_index.frame(row, points=False, images=False)
    rng = np.random.default_rng(0)
    stored = {camera.token: rng.random((3, 4, 8)).astype(np.float16) for camera in frame.cameras}
    cache = SimpleNamespace(read=stored.__getitem__)
    names = ("CAM_FRONT", "CAM_BACK")
    maps = camera_maps(small_index, row, cache, names, (2, 4))
    tokens = {camera.channel: camera.token for camera in frame.cameras}
    for number, name in enumerate(names):
        for i in range(2):
            for j in range(4):
                part = stored[tokens[name]][:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].astype(np.float64)
                assert maps[number, :, i, j].numpy() == pytest.approx(part.mean((1, 2)), abs=1e-3)


def test_images_that_do_not_fit_are_refused(seeing, make_vlm, scan, scans):
    model, processor = seeing
    with pytest.raises(InputError, match="takes images beside a scan"):
        ask(processor, [scan(0)])
    planes = model.model.get_lidar_planes(scan(0)[None])
    with pytest.raises(InputError, match="maps of images are none"):
        model.get_lidar_features(pixel_values=planes)
    with pytest.raises(InputError, match=r"maps of images are \(1, 2, 3, 4, 4\)"):
        model.get_lidar_features(pixel_values=planes, camera_maps=torch.zeros(1, 2, 3, 4, 4))
    blind, _ = make_vlm()
    with pytest.raises(InputError, match="takes no images"):
        blind.get_lidar_features(points=scan(0)[None], camera_maps=torch.zeros(1, 2, 3, 2, 4))
    with pytest.raises(InputError, match="camera_merge is 3"):
        make_vlm(**{**CAMERAS, "camera_merge": 3})
