"""Saving, finding, loading, extracting; and what damaged files say."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import superflow
from superflow.errors import InputError, MissingFileError
from superflow.hub.backbone import Backbone, BackboneCard, load, save_backbone
from superflow.hub.encoder_file import fill_encoder, weights_hash
from superflow.hub.shelf import registered
from superflow.lidar.encoder import LidarEncoder

CARD = BackboneCard(
    "street",
    teacher={"name": "some teacher", "sha256": "ab"},
    data={"name": "made", "licence": "none", "hash": "0123"},
    training={"iter": 10},
)


@pytest.fixture
def path(encoder, tmp_path):
    save_backbone(encoder, tmp_path / "street.safetensors", CARD)
    return tmp_path / "street.safetensors"


@pytest.fixture
def points(log):
    return log.frame(2).points


def test_a_saved_backbone_is_the_same_backbone(encoder, path, points):
    backbone = superflow.load(path)
    assert isinstance(backbone, Backbone)
    got = backbone.extract(points)
    tensor = torch.from_numpy(points)
    want = encoder.eval().point_features(tensor, torch.zeros(len(points), dtype=torch.int64), 1)
    assert got.shape == (len(points), encoder.out_channels)
    assert got.dtype == np.float32
    assert np.array_equal(got, want.detach().numpy())
    assert isinstance(backbone.extract(tensor), torch.Tensor)
    assert not backbone.extract(tensor).requires_grad


def test_the_card_says_everything_and_lies_beside_the_file(encoder, path):
    card = load(path).card
    assert (card.name, card.teacher, card.data, card.training) == (
        CARD.name,
        CARD.teacher,
        CARD.data,
        CARD.training,
    )
    assert card.encoder == encoder.config()
    assert card.channels == encoder.out_channels
    assert card.version == superflow.__version__
    beside = json.loads(path.with_suffix(".json").read_text())
    assert BackboneCard.from_record(beside) == card
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["superflow_card"]) == beside


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_points(path, points, count):
    backbone = load(path)
    assert backbone.extract(points[:count]).shape == (count, backbone.out_channels)
    assert backbone.extract(torch.from_numpy(points[:count])).shape == (count, backbone.out_channels)


def test_rows_follow_the_points(path, points):
    backbone = load(path)
    order = np.random.default_rng(0).permutation(len(points))
    straight, permuted = backbone.extract(points), backbone.extract(points[order])
    np.testing.assert_allclose(permuted, straight[order], rtol=1e-4, atol=1e-5)
    twice = backbone.extract(np.concatenate([points, points]))
    np.testing.assert_allclose(twice[: len(points)], twice[len(points) :])


def test_extract_changes_neither_points_nor_mode(path, points):
    backbone = load(path).train()
    before, statistics = points.copy(), [b.clone() for b in backbone.buffers()]
    backbone.extract(points, intensity="0..255")
    assert np.array_equal(points, before)
    assert backbone.training
    assert all(torch.equal(a, b) for a, b in zip(statistics, backbone.buffers()))


def test_further_columns_and_float64_are_welcome(path, points):
    backbone = load(path)
    wide = np.column_stack([points, np.arange(len(points))]).astype(np.float64)
    assert np.array_equal(backbone.extract(wide), backbone.extract(points))


def test_intensity_is_brought_to_what_the_encoder_was_trained_on(encoder, path, points, tmp_path):
    raw = points.copy()
    raw[:, 3] *= 255
    backbone = load(path)
    np.testing.assert_allclose(
        backbone.extract(raw, intensity="0..255"), backbone.extract(points), rtol=1e-3, atol=1e-4
    )
    with pytest.raises(InputError, match=r'intensity runs from .*; pass intensity="0..255"'):
        backbone.extract(raw)
    save_backbone(encoder, tmp_path / "raw.safetensors", BackboneCard("raw", intensity="0..255"))
    published = load(tmp_path / "raw.safetensors")
    np.testing.assert_allclose(
        published.extract(points), published.extract(raw, intensity="0..255"), rtol=1e-3, atol=1e-3
    )
    assert not np.allclose(published.extract(points), backbone.extract(points))


def test_limits_of_the_card_give_zero_rows(encoder, tmp_path, points):
    card = BackboneCard("near", limits={"range_m": [0, 10]})
    save_backbone(encoder, tmp_path / "near.safetensors", card)
    rows = load(tmp_path / "near.safetensors").extract(points)
    far = np.linalg.norm(points[:, :2], axis=1) > 10
    assert not rows[far].any()
    assert rows[~far].any(axis=1).all()


def test_names_resolve_in_the_registry_folder(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("superflow.hub.shelf.SHIPPED", tmp_path / "package")
    with pytest.raises(
        MissingFileError, match=r'"street" is no file and no backbone by name \(there: none yet\)'
    ):
        load("street")
    save_backbone(encoder, tmp_path / "home" / "avenue.safetensors", CARD)
    assert registered() == ["avenue"]
    assert load("avenue").card.name == "street"
    with pytest.raises(MissingFileError, match=r"\(there: avenue\)"):
        load("street")
    with pytest.raises(MissingFileError, match=r"street.pth: there is no such file"):
        load("street.pth")
    save_backbone(encoder, tmp_path / "package" / "street.safetensors", CARD)
    save_backbone(encoder, tmp_path / "package" / "avenue.safetensors", BackboneCard("of the package"))
    assert registered() == ["avenue", "street"]
    assert load("avenue").card.name == "street", "a user's own goes before the package's"
    assert fill_encoder(LidarEncoder(**encoder.config()), "street")["file"] == "street.safetensors"


def test_an_exported_file_is_known_by_its_content_whatever_it_is_called(
    encoder, path, points, tmp_path, monkeypatch
):
    want = load(path).extract(points)
    for name in ("link", "street.SAFETENSORS", "v1.2", "street.pth"):
        (tmp_path / name).symlink_to(path)
        np.testing.assert_array_equal(load(tmp_path / name).extract(points), want)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cut: is truncated or no safetensors file"):
        load(tmp_path / "cut")
    run = tmp_path / "run"
    run.mkdir()
    state = {"meta": {}, "state_dict": encoder.state_dict(), "superflow": {"encoder": encoder.config()}}
    torch.save(state, run / "iter_3.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(load("~/run").extract(points), want)


def test_half_the_size_and_nearly_the_same_features(encoder, tmp_path, points):
    whole = save_backbone(encoder, tmp_path / "whole.safetensors", CARD)
    card = save_backbone(encoder, tmp_path / "half.safetensors", CARD, half=True)
    assert card.weights_sha256 != whole.weights_sha256
    size = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert size[1] < 0.65 * size[0]
    rows = (
        load(tmp_path / "whole.safetensors").extract(points),
        load(tmp_path / "half.safetensors").extract(points),
    )
    assert rows[1].dtype == np.float32
    assert np.abs(rows[0] - rows[1]).max() < 0.01 * np.abs(rows[0]).max()
    with torch.no_grad():
        encoder.backbone.stem[0].conv.weight[0] = 1e6
    with pytest.raises(InputError, match=r"stem.0.conv.weight does not fit float16; save it whole"):
        save_backbone(encoder, tmp_path / "half.safetensors", CARD, half=True)


def test_a_checkpoint_loads_too(encoder, tmp_path, points):
    state = {"model.encoder." + name: value for name, value in encoder.state_dict().items()}
    record = {"encoder": encoder.config(), "teacher": {"name": "t"}, "data": {"train": {"dataset": "made"}}}
    torch.save(
        {"meta": {"iter": 7, "seed": 1}, "state_dict": state, "superflow": record}, tmp_path / "iter_7.pth"
    )
    backbone = load(tmp_path / "iter_7.pth")
    assert backbone.card.training["iter"] == 7
    assert backbone.card.teacher == {"name": "t"}
    assert backbone.card.name == "iter_7"
    assert backbone.extract(points).shape[0] == len(points)


def rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        card = json.loads(file.metadata()["superflow_card"])
    change(card, weights)
    save_file(weights, path, metadata={"superflow_card": json.dumps(card)})


def test_truncated_files(path):
    whole = path.read_bytes()
    for size in (0, 5, 1000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"street.safetensors: is truncated or no safetensors file"):
            load(path)


def test_unknown_formats_and_cards(path):
    rewrite(path, lambda card, weights: card.update(format=99))
    with pytest.raises(InputError, match="is of format 99, this version reads format 1"):
        load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="has no card"):
        load(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"superflow_card": "[]"})
    with pytest.raises(InputError, match="its card cannot be read"):
        load(path)


def test_weights_of_another_architecture(path):
    def widen(card, weights):
        card["encoder"]["backbone"]["width"] = 1.0

    rewrite(path, widen)
    with pytest.raises(InputError, match=r"does not fit this model: .* is .* in the file and"):
        load(path)

    def mistype(card, weights):
        card["encoder"]["backbone"]["width"] = 0.5
        card["encoder"]["bakbone"] = {}

    rewrite(path, mistype)
    with pytest.raises(InputError, match="encoder config is not understood"):
        load(path)


def test_changed_weights_are_noticed(path):
    def poke(card, weights):
        name = sorted(weights)[0]
        weights[name] = weights[name] + 1

    rewrite(path, poke)
    with pytest.raises(InputError, match="do not match the hash in its card"):
        load(path)


def change_weights(card, weights, change):
    """Weights that are changed, and a card that knows of it."""
    weights.update({name: change(name, value) for name, value in weights.items()})
    card["weights_sha256"] = weights_hash(weights)


@pytest.mark.parametrize("name", ["backbone.stem.0.conv.weight", "backbone.stem.0.norm.running_var"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_give_no_features(encoder, path, name, value):
    def poke(each, weights):
        return weights + value if each == name else weights

    rewrite(path, lambda card, weights: change_weights(card, weights, poke))
    for read in (load, lambda path: fill_encoder(encoder, path)):
        with pytest.raises(InputError, match=rf"street.safetensors: {name} is not finite"):
            read(path)
    with torch.no_grad():
        encoder.state_dict()[name].add_(value)
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"{name} is not finite, so it would give no features"):
        save_backbone(encoder, path, CARD)
    assert path.read_bytes() == before
    state = {"meta": {}, "state_dict": encoder.state_dict(), "superflow": {"encoder": encoder.config()}}
    torch.save(state, path.with_suffix(".pth"))
    with pytest.raises(InputError, match=rf"street.pth: {name} is not finite"):
        load(path.with_suffix(".pth"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(path, dtype):
    def cast(name, weights):
        return weights.to(dtype) if weights.is_floating_point() else weights

    rewrite(path, lambda card, weights: change_weights(card, weights, cast))
    with pytest.raises(
        InputError, match=rf"street.safetensors: .* is of {dtype} in the file and of torch.float32"
    ):
        load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e5m2])
def test_weights_of_other_floating_types_become_float32(path, points, dtype):
    def cast(name, weights):
        return weights.to(dtype) if weights.is_floating_point() else weights

    rewrite(path, lambda card, weights: change_weights(card, weights, cast))
    assert {weights.dtype for weights in load(path).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("limits", [], r"its card cannot be read \(limits is '\[\]'\)"),
        ("limits", {"range_m": [0]}, r"limits.range_m is \[0.0\]; give two ascending numbers"),
        ("limits", {"range_m": ["a", "b"]}, "limits.range_m is .*; give two ascending numbers"),
        ("limits", {"height_m": 3}, "limits.height_m is 3; give two ascending numbers"),
        ("limits", {"far": 3}, "limits has no 'far'"),
        ("intensity", "raw", "card: intensity is 'raw'"),
        ("method", 3, "its card cannot be read"),
        ("data", ["street"], "its card cannot be read"),
        ("name", 3, "its card cannot be read"),
        ("metrics", {}, "its card cannot be read"),
        ("encoder", [1], "its card cannot be read"),
        (
            "encoder",
            {"backbone": {"depth": "tiny", "momentum": "x"}, "grid": {"type": "cubic"}},
            "momentum is 'x'",
        ),
    ],
)
def test_cards_with_wrong_fields_are_one_sentence_that_names_the_file(path, field, value, message):
    rewrite(path, lambda card, weights: card.update({field: value}))
    with pytest.raises(InputError, match=f"street.safetensors: .*{message}|street.safetensors: {message}"):
        load(path)


@pytest.mark.parametrize(
    "field", ["name", "licence", "limits", "teacher", "method", "data", "training", "metrics"]
)
def test_null_in_a_card_is_as_good_as_nothing(path, field):
    rewrite(path, lambda card, weights: card.update({field: None}))
    card = load(path).card
    assert getattr(card, field) == getattr(BackboneCard("street"), field)


@pytest.mark.parametrize(
    "change",
    [
        {"meta": None},
        {"state_dict": [1]},
        {"superflow": {"encoder": {}, "data": [1]}},
        {"state_dict": {"student.x": [1, 2]}},
        {"state_dict": {5: torch.zeros(1)}},
    ],
    ids=str,
)
def test_checkpoints_with_wrong_parts_are_one_sentence(encoder, tmp_path, change):
    whole = {"meta": {}, "state_dict": encoder.state_dict(), "superflow": {"encoder": encoder.config()}}
    torch.save({**whole, **change}, tmp_path / "last.pth")
    with pytest.raises(InputError, match=r"last\.pth: "):
        load(tmp_path / "last.pth")


def test_damaged_and_foreign_checkpoints(encoder, tmp_path):
    path = tmp_path / "last.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"last.pth: is"):
        load(path)
    torch.save({"state_dict": {}, "code": pathlib.PurePosixPath("x")}, path)
    with pytest.raises(InputError, match=r"last\.pth: is no checkpoint of plain tensors"):
        load(path)
    torch.save({"state_dict": {}, "meta": {}}, path)
    with pytest.raises(InputError, match="holds no record of a LiDAR encoder"):
        load(path)
    torch.save(
        {"meta": {}, "state_dict": {"student.x": torch.zeros(1)}, "superflow": {"encoder": encoder.config()}},
        path,
    )
    with pytest.raises(InputError, match="weights of another architecture"):
        load(path)
    whole = {"meta": {}, "state_dict": encoder.state_dict(), "superflow": {"encoder": encoder.config()}}
    torch.save(whole, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"last.pth: is no readable checkpoint"):
        load(path)


def test_a_full_disk_leaves_the_old_file(encoder, path, monkeypatch):
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("superflow.files.writes.os.fsync", full)
    with pytest.raises(
        InputError, match=r"street.safetensors: cannot be written \(No space left on device\)"
    ):
        save_backbone(encoder, path, CARD)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["street.json", "street.safetensors"]


def test_other_suffixes_and_intensities_are_refused(encoder, tmp_path):
    with pytest.raises(InputError, match=r"rename it to a.safetensors"):
        save_backbone(encoder, tmp_path / "a.pth", CARD)
    with pytest.raises(InputError, match="it must be"):
        BackboneCard("a", intensity="raw")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_not_the_folder_that_one_stands_in(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the name of a backbone is empty; give a file"):
        load(name)
