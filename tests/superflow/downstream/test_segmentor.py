"""Freezing, losses, predictions and weights of the segmentor."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from superflow.clips.batch import collate
from superflow.downstream.segment_data import SegmentDataset
from superflow.downstream.segmentor import Segmentor, label_noise, voxel_labels
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, load, save_backbone
from superflow.hub.encoder_file import load_encoder
from superflow.losses import cross_entropy, lovasz_softmax


def state_hash(module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def batch(log):
    dataset = SegmentDataset(log, train=True, max_points=300)
    return collate([dataset[(0, 1)], dataset[(4, 2)]])


def train(model, batch, steps=10):
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        model.train()  # as training loops do at every turn
        optimiser.zero_grad()
        model.loss(batch)["loss"].backward()
        optimiser.step()


def test_mistake_02_frozen_batch_norm_stays_frozen(encoder, batch):
    model = Segmentor(encoder, 4, freeze=True)
    before, head = state_hash(model.encoder), state_hash(model.head)
    train(model, batch)
    assert state_hash(model.encoder) == before, "weights and running statistics of the backbone"
    assert state_hash(model.head) != head
    assert model.training
    assert not model.encoder.training
    assert all(p.grad is None for p in model.encoder.parameters())
    assert set(model.parameter_groups()) == {"head"}


def test_freezing_weights_only_lets_statistics_adapt(encoder, batch):
    model = Segmentor(encoder, 4, freeze="weights")
    weights = {name: p.clone() for name, p in model.encoder.named_parameters()}
    statistics = {name: b.clone() for name, b in model.encoder.named_buffers()}
    train(model, batch, steps=2)
    assert all(torch.equal(p, weights[name]) for name, p in model.encoder.named_parameters())
    assert any(not torch.equal(b, statistics[name]) for name, b in model.encoder.named_buffers())


def test_fine_tuning_reaches_every_parameter_and_learns(encoder, batch):
    model = Segmentor(encoder, 4)
    first = float(model.loss(batch)["loss"].detach())
    model.loss(batch)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    model.zero_grad()
    train(model, batch, steps=15)
    assert float(model.loss(batch)["loss"].detach()) < 0.7 * first
    groups = model.parameter_groups()
    assert len(groups["head"]) == 2
    assert len(groups["head"]) + len(groups["encoder"]) == len(list(model.parameters()))


def test_loss_is_the_weighted_sum_over_labelled_points(encoder, batch):
    model = Segmentor(
        encoder, 4, class_weights=[1, 2, 3, 4], cross_entropy_weight=0.5, lovasz_weight=3.0
    ).eval()
    with torch.no_grad():
        logits = model.head(model.encoder.point_features(batch.points, batch.cloud, batch.num_clouds))
        entropy = cross_entropy(logits, batch.labels, class_weights=torch.tensor([1.0, 2, 3, 4]))
        want = 0.5 * entropy + 3.0 * lovasz_softmax(logits, batch.labels)
        torch.testing.assert_close(model.loss(batch)["loss"], want, rtol=1e-4, atol=1e-5)


def test_loss_on_voxels_uses_one_label_a_voxel(encoder, batch):
    model = Segmentor(encoder, 4, loss_on="voxels").eval()
    with torch.no_grad():
        voxels = model.encoder(batch.points, batch.cloud, batch.num_clouds)
        labels = voxel_labels(batch.labels, voxels.inverse, len(voxels.features), 4)
        want = cross_entropy(model.head(voxels.features), labels)
        torch.testing.assert_close(model.loss(batch)["cross_entropy"], want)


def test_points_outside_the_limits_do_not_train(encoder, batch):
    model = Segmentor(encoder, 4, limits={"range_m": [0, 10]}).eval()
    moved = batch.points.clone()
    outside = ~model.limits.mask(moved)
    moved[outside, 2] += 3.0
    from dataclasses import replace

    with torch.no_grad():
        assert float(model.loss(batch)["loss"]) == float(model.loss(replace(batch, points=moved))["loss"])


def test_predict_keeps_rows_order_and_mode(encoder, batch):
    model = Segmentor(encoder, 4).train()
    statistics = state_hash(model)
    rows = model.predict(batch)
    assert model.training
    assert state_hash(model) == statistics
    assert rows.shape == (len(batch.points), 4)
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(len(rows)))
    with torch.no_grad():
        model.eval()
        features = model.encoder.point_features(batch.points, batch.cloud, batch.num_clouds)
        torch.testing.assert_close(rows, model.head(features).softmax(dim=1))
    limited = Segmentor(encoder, 4, limits={"range_m": [0, 10]})
    zero = limited.predict(batch).sum(dim=1) == 0
    assert torch.equal(zero, ~limited.limits.mask(batch.points))


def test_an_empty_cloud_is_predicted_and_stepped_on(encoder, log):
    sample = SegmentDataset(log, train=True, max_points=0)[(0, 0)]
    model = Segmentor(encoder, 4)
    assert model.predict(sample).shape == (0, 4)
    model.loss(sample)["loss"].backward()


def test_mistake_49_a_voxel_has_the_label_of_its_majority():
    labels = torch.tensor([2, 1, 1, 255, 3, 255, 0, 0, 3])
    inverse = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    majority = voxel_labels(labels, inverse, 5, 4)
    first = voxel_labels(labels, inverse, 5, 4, rule="first")
    assert majority.tolist() == [1, 3, 255, 0, 255]
    assert first.tolist() == [2, 255, 255, 0, 255]
    assert float(label_noise(labels, majority[inverse])) == pytest.approx(100 * 2 / 7)
    assert float(label_noise(labels, first[inverse])) == pytest.approx(100 * 4 / 7)


def test_mistake_49_training_on_voxels_says_what_their_labels_lose(make_encoder, batch):
    coarse = make_encoder(size_m=4.0)
    noise = {
        rule: float(
            Segmentor(coarse, 4, loss_on="voxels", voxel_label=rule).eval().loss(batch)["label_noise"]
        )
        for rule in ("majority", "first")
    }
    voxels = coarse(batch.points, batch.cloud, batch.num_clouds)
    wrong = 0
    for voxel in range(len(voxels.features)):
        inside = batch.labels[(voxels.inverse == voxel) & (batch.labels != 255)]
        wrong += len(inside) - int(torch.bincount(inside, minlength=4).max())
    assert noise["majority"] == pytest.approx(100 * wrong / int((batch.labels != 255).sum()))
    assert 0 < noise["majority"] < noise["first"]
    assert "label_noise" not in Segmentor(coarse, 4).loss(batch)


def test_voxel_labels_match_a_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (300,), generator=generator)
    labels[labels == 4] = 255
    inverse = torch.randint(40, (300,), generator=generator)
    for voxel, got in enumerate(voxel_labels(labels, inverse, 41, 4).tolist()):
        mine = [
            label
            for label, where in zip(labels.tolist(), inverse.tolist())
            if where == voxel and label != 255
        ]
        assert got == (min(set(mine), key=lambda c: (-mine.count(c), c)) if mine else 255)


def test_a_label_beyond_the_classes_is_no_vote_for_the_next_voxel(encoder, batch):
    inverse, labels = torch.tensor([0, 0, 1]), torch.tensor([5, 5, 1])
    with pytest.raises(ValueError, match="labels run from 1 to 5, but there are 4 classes"):
        voxel_labels(labels, inverse, 2, 4)
    for loss_on in ("points", "voxels"):
        with pytest.raises(ValueError, match=r"labels run from \d to \d, but there are 2 classes"):
            Segmentor(encoder, 2, loss_on=loss_on).loss(batch)


def test_pretrained_weights_come_from_checkpoint_or_export(make_encoder, tmp_path):
    source = make_encoder(seed=1)
    save_backbone(source, tmp_path / "backbone.safetensors", BackboneCard("test"))
    state = {"student." + name: value for name, value in source.state_dict().items()}
    state["point_head.weight"] = torch.zeros(3, 3)
    torch.save(
        {"meta": {"iter": 5}, "state_dict": state, "superflow": {"encoder": source.config()}},
        tmp_path / "a.pth",
    )
    for name in ("backbone.safetensors", "a.pth"):
        model = Segmentor(make_encoder(seed=2), 4, pretrained=tmp_path / name, freeze=True)
        assert state_hash(model.encoder) == state_hash(source)
        assert model.record()["pretrained"]["file"] == name
        assert state_hash(load_encoder(tmp_path / name)) == state_hash(source)


def test_the_scale_of_intensity_comes_with_the_weights(make_encoder, tmp_path):
    source = make_encoder()
    save_backbone(source, tmp_path / "raw.safetensors", BackboneCard("raw", intensity="0..255"))
    save_backbone(source, tmp_path / "plain.safetensors", BackboneCard("plain"))
    record = {"encoder": source.config(), "data": {"train": {"raw_intensity": True}}}
    for name, data in (("raw.pth", record), ("unknown.pth", {"encoder": source.config()})):
        torch.save({"meta": {}, "state_dict": source.state_dict(), "superflow": data}, tmp_path / name)
    found = {
        name: Segmentor(make_encoder(), 4, pretrained=tmp_path / name).record()["pretrained"]["raw_intensity"]
        for name in ("plain.safetensors", "raw.pth", "raw.safetensors", "unknown.pth")
    }
    assert found == {
        "plain.safetensors": False,
        "raw.pth": True,
        "raw.safetensors": True,
        "unknown.pth": None,
    }
    assert load(tmp_path / "raw.pth").card.intensity == "0..255"


def test_another_architecture_is_one_sentence(make_encoder, tmp_path):
    save_backbone(make_encoder(width=1.0), tmp_path / "wide.safetensors", BackboneCard("wide"))
    with pytest.raises(
        InputError,
        match=r"wide\.safetensors: does not fit .* backbone is {.*'width': 1\.0.*} in the file and {.*'width': 0\.5",
    ):
        Segmentor(make_encoder(width=0.5), 4, pretrained=tmp_path / "wide.safetensors")


def test_another_voxel_size_is_logged(make_encoder, tmp_path, caplog):
    save_backbone(make_encoder(size_m=0.5), tmp_path / "half.safetensors", BackboneCard("half"))
    Segmentor(make_encoder(size_m=0.25), 4, pretrained=tmp_path / "half.safetensors")
    assert "other settings of grid" in caplog.text


def test_record_rebuilds_the_model(encoder):
    import json

    record = Segmentor(encoder, 4, limits={"range_m": [0, 60]}, class_weights=[1, 1, 2, 1]).record()
    json.dumps(record)
    again = Segmentor(record["encoder"], record["num_classes"], limits=record["limits"])
    assert again.record()["encoder"] == record["encoder"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_on": "pixels"}, "loss_on='pixels' must be"),
        ({"freeze": "yes"}, "freeze='yes' must be"),
        ({"class_weights": [1.0]}, "1 class weights for 4 classes"),
        ({"class_weights": [0, 0, 0, 0]}, r"class_weights are \[0.0, 0.0, 0.0, 0.0\]; give .* one above it"),
        ({"class_weights": [1, 1, -1, 1]}, "give finite numbers from 0 on"),
        ({"class_weights": torch.tensor([1, 1, torch.nan, 1])}, "give finite numbers from 0 on"),
        ({"cross_entropy_weight": 0, "lovasz_weight": 0.0}, "both 0, so nothing would be learned"),
    ],
)
def test_wrong_options_are_named(encoder, options, message):
    with pytest.raises(ValueError, match=message):
        Segmentor(encoder, 4, **options)


def test_a_batch_without_labels_is_refused(encoder, batch):
    from dataclasses import replace

    with pytest.raises(ValueError, match="no labels"):
        Segmentor(encoder, 4).loss(replace(batch, labels=None))


def test_test_time_augmentation_is_the_mean_over_turned_and_mirrored_clouds(make_encoder, batch):
    """Against every view written out with sines and cosines, one at a time, by a model that knows none."""
    limits = {"range_m": [2.0, 20.0]}
    plain = Segmentor(make_encoder(), 4, limits=limits)
    model = Segmentor(make_encoder(), 4, limits=limits, test_time_augmentation=3)
    model.load_state_dict(plain.state_dict())
    inside = plain.limits.mask(batch.points)
    assert 0 < inside.sum() < len(inside), "a turned point stays in, or out, as it was"
    whole = Segmentor(make_encoder(), 4)
    whole.load_state_dict(plain.state_dict())
    total = torch.zeros(int(inside.sum()), 4)
    for mirror in (1, -1):
        for turn in range(3):
            angle = torch.tensor(2 * torch.pi * turn / 3, dtype=torch.float64)
            x, y = batch.points[inside, 0].double(), mirror * batch.points[inside, 1].double()
            seen = batch.points[inside].clone()
            seen[:, 0] = (angle.cos() * x - angle.sin() * y).float()
            seen[:, 1] = (angle.sin() * x + angle.cos() * y).float()
            view = replace(batch, points=seen, cloud=batch.cloud[inside], labels=None)
            total += whole.predict(view)
    got = model.predict(batch)
    torch.testing.assert_close(got[inside], total / 6, atol=2e-5, rtol=1e-4)
    assert (got[~inside] == 0).all()
    assert not torch.allclose(got, plain.predict(batch), atol=1e-4)
    assert model.record()["test_time_augmentation"] == 3
    assert "test_time_augmentation" not in plain.record()
