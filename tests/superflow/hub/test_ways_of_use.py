"""A backbone under what else a process does: other defaults, several threads, devices and names that there are not."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import superflow
from superflow.downstream.features import EncoderFeatures
from superflow.errors import InputError, MissingFileError
from superflow.hub.backbone import Backbone, BackboneCard
from superflow.hub.shelf import registry_folder
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.evaluation import evaluating


def make_backbone(intensity="0..1", **options) -> Backbone:
    torch.manual_seed(0)
    options = {"grid": {"type": "cubic", "size_m": 0.25}, "inputs": ("intensity", "height", "one"), **options}
    encoder = LidarEncoder(backbone={"depth": "tiny", "width": 0.25}, **options)
    return Backbone(encoder, BackboneCard("street", intensity=intensity))


def make_points(count: int = 500, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    return (drawn.random((count, 4)) * [80, 80, 3, 1] - [40, 40, 1, 0]).astype(np.float32)


def forward(backbone: Backbone, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return backbone(points, torch.zeros(len(points), dtype=torch.int64), 1)


@pytest.mark.parametrize("what", [None, 3, b"street-tiny", [], {"name": "street-tiny"}])
def test_what_is_no_name_is_refused(what):
    with pytest.raises(InputError, match=rf"^a backbone is no {type(what).__name__}; give a file"):
        superflow.load(what)


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)"):
        superflow.load("street" * 1000)
    with pytest.raises(MissingFileError, match="is no file and no backbone by name"):
        superflow.load("street")


def test_the_home_of_nobody_is_named():
    with pytest.raises(
        InputError, match=r"^~nobody-of-that-name/street.pth: nobody knows the folder ~nobody"
    ):
        superflow.load("~nobody-of-that-name/street.pth")


def test_who_has_no_home_has_the_backbones_of_the_package(monkeypatch):
    """As a user whom only a container knows by number."""

    def homeless(path):
        if path.parts[:1] == ("~",):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.delenv("SUPERFLOW_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert superflow.load("street-tiny").card.name == "street-tiny"
    with pytest.raises(MissingFileError, match=r"\(there: street-tiny, street-tiny-averaged\)"):
        superflow.load("street")
    with pytest.raises(
        InputError, match=r"nobody knows the folder ~; give the whole path, .* SUPERFLOW_HOME"
    ):
        registry_folder()
    monkeypatch.setenv("SUPERFLOW_HOME", "~/shelf")
    with pytest.raises(InputError, match=r"^~/shelf: nobody knows the folder ~"):
        superflow.load("street-tiny")


@pytest.mark.parametrize("device", ["gpu", "", "meta", "xpu", "cuda:77", 77, 3.5, "cpu:street"])
def test_devices_that_cannot_be_used_are_refused(device):
    with pytest.raises(InputError, match=r"^device '.*' cannot be used \(.*\); there (is|are) cpu"):
        superflow.load("street-tiny", device=device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), None])
def test_devices_that_can(device):
    assert next(superflow.load("street-tiny", device=device).parameters()).device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_defaults_of_a_process_change_no_weight(dtype, device):
    want = superflow.load("street-tiny")
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device):
            got = superflow.load("street-tiny")
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in want.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.int32, torch.int8])
@pytest.mark.parametrize("grid", [{"type": "cubic", "size_m": 0.25}, {"type": "cylinder"}])
def test_points_with_few_digits_lie_in_the_cells_that_they_name(kind, grid):
    """Cells of a quarter of a metre are numbered up to 160 here, which bfloat16 counts by ones up to 256 alone."""
    backbone = make_backbone(grid=grid)
    points = torch.from_numpy(make_points()) * torch.tensor([3, 3, 3, 1.0])
    rough = points.to(kind)
    got, want = forward(backbone, rough), forward(backbone, rough.float())
    assert torch.equal(got, want)
    assert want.std() > 0


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_intensity_does_not_spread(value):
    """`extract` refuses it with its row; in training it would make all features near it infinite."""
    points = torch.from_numpy(make_points())
    points[7, 3] = value
    with pytest.raises(InputError, match=r"^points: input intensity is not finite"):
        forward(make_backbone(), points)
    points[7, 3] = np.nan  # none is known
    assert forward(make_backbone(), points).isfinite().all()


@pytest.mark.parametrize("card", ["0..1", "0..255"])
@pytest.mark.parametrize("given", ["0..1", "0..255"])
def test_training_may_see_what_extract_shows_the_network(card, given):
    backbone, points = make_backbone(card), make_points()
    want = backbone.extract(points)
    handed_in = points * np.float32([1, 1, 1, 255 if given == "0..255" else 1])
    seen = backbone.as_trained(handed_in, intensity=given)
    assert np.allclose(forward(backbone, seen).numpy(), want, atol=1e-5)
    assert np.array_equal(forward(backbone, backbone.as_trained(points)).numpy(), want)
    alone = EncoderFeatures(backbone.encoder)(torch.from_numpy(points))  # of what `read_scan` gives
    assert np.array_equal(alone.numpy(), want)
    assert float(seen[:, 3].max()) > 100 if card == "0..255" else float(seen[:, 3].max()) <= 1.001


def test_who_leaves_first_leaves_the_others_in_evaluation():
    backbone = make_backbone().train()
    backbone.encoder.backbone.stem[0].eval()  # frozen
    modes = [part.training for part in backbone.modules()]
    first, second, inner = evaluating(backbone), evaluating(backbone), evaluating(backbone.encoder)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(part.training for part in backbone.modules())
    with inner:
        second.__exit__(None, None, None)
        assert not any(part.training for part in backbone.encoder.modules())
        assert backbone.training
    assert [part.training for part in backbone.modules()] == modes


def test_threads_get_the_rows_of_one_though_the_backbone_is_in_training():
    backbone, scans = make_backbone(), [make_points(400, seed) for seed in range(4)]
    want = [backbone.extract(points) for points in scans]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()
    wrong = []

    def ask(number: int) -> None:
        for _ in range(3):
            if not np.array_equal(backbone.extract(scans[number]), want[number]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(part.training for part in backbone.modules())
