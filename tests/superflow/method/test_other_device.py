"""Training, probing and extraction on another device than the CPU, with a stand-in for the device (other_device.py)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from other_device import DEVICE, TRAFFIC, Elsewhere, OtherDevice, moved
from small_batch import PRETRAINERS, Fixed, make_clip

from superflow.camera.teachers.filter_bank import build as filter_bank
from superflow.clips.batch import Batch, collate
from superflow.downstream.features import EncoderFeatures
from superflow.downstream.heads import fit_knn_probe, fit_linear_probe
from superflow.downstream.metrics import ConfusionMatrix, class_predictions
from superflow.downstream.recalibration import recalibrate_batch_norm
from superflow.downstream.segmentor import Segmentor
from superflow.downstream.voting import Ballot, VotingOptions, vote
from superflow.hub.backbone import Backbone, BackboneCard
from superflow.lidar import conv
from superflow.lidar.backends import spconv, torch_grouped
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.sparse import Pyramid
from superflow.method.pretrainer import Pretrainer

GRIDS = {
    "cubic": {"type": "cubic", "size_m": 0.5},
    "cylinder": {"type": "cylinder", "rho_m": 0.2, "phi_deg": 2.0, "z_m": 0.2},
}


@pytest.fixture
def as_on_a_device(monkeypatch):
    """The CPU takes the back end of devices, too, so that the bits are equal."""
    monkeypatch.setitem(conv.PREFERRED, "cpu", ("torch_grouped",))
    conv._default.cache_clear()
    yield
    conv._default.cache_clear()


def encoder(grid: str = "cubic", inputs: tuple[str, ...] = ("intensity", "height", "range", "one")):
    torch.manual_seed(0)
    return LidarEncoder(grid=GRIDS[grid], backbone={"depth": "tiny", "width": 0.5}, inputs=inputs)


def scan() -> Batch:
    """Two labelled clouds, cut from one cube of points."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300, 5, generator=generator) * torch.tensor([40, 40, 4, 1, 1])
    labels = torch.randint(4, (300,), generator=generator)
    labels[::9] = 255
    return Batch(
        points=points - torch.tensor([20, 20, 2, 0, 0]),
        cloud=torch.arange(300) // 150,
        cloud_clip=torch.arange(2),
        cloud_offset=torch.zeros(2, dtype=torch.int64),
        cloud_dense=torch.zeros(2, dtype=torch.bool),
        labels=labels,
    )


def test_the_stand_in_refuses_what_a_gpu_refuses():
    there, here = moved(torch.arange(4.0)), torch.ones(4)
    with OtherDevice():
        with pytest.raises(RuntimeError, match="add got tensors of two devices"):
            there + here
        with pytest.raises(RuntimeError, match=r"index_put.* got tensors of two devices"):
            there[torch.tensor([0, 1])] = torch.zeros(2)
        with pytest.raises(RuntimeError, match="index_add_ got tensors of two devices"):
            here.index_add_(0, torch.tensor([0]), there[:1])
        with pytest.raises(TypeError, match=r"\.cpu\(\)"):
            there.numpy()
        TRAFFIC.clear()
        assert bool((there > 2).any())
        assert there.nonzero().tolist() == [[1], [2], [3]]
        there[there > 1] = torch.tensor(5.0)
        torch.zeros(2).to(DEVICE).add_(torch.tensor([1.0, 2.0], device=DEVICE)).cpu()
        assert sum(TRAFFIC.values()) == 7, TRAFFIC
        there = moved(torch.arange(4.0))
        # single numbers, and indices, may be here
        assert (there + 1)[torch.tensor([3, 0])].tolist() == [4, 1]
        assert (there + here.to(DEVICE)).device == DEVICE
        assert type(there.cpu()) is torch.Tensor
        assert torch.zeros(2, device=there.device).tolist() == [0, 0]


def test_the_counts_that_spconv_reads_stay_on_the_cpu():
    """Its layers read them on the host: on the device, each would wait for it."""
    cells = torch.ones(1, 3, 3, 3).nonzero()
    plain, _ = spconv.prepare(Pyramid.from_cells(cells, (3, 3, 3), num_clouds=1).subm(0))
    with OtherDevice():
        table, counts = spconv.prepare(Pyramid.from_cells(moved(cells), (3, 3, 3), num_clouds=1).subm(0))
    assert table.device == DEVICE
    assert torch.equal(table.inner, plain)
    assert type(counts) is torch.Tensor
    assert counts.sum() == (plain[0] >= 0).sum()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rows", [1 << 18, 50])
def test_layers_wait_for_nothing_on_a_fresh_batch(grid, rows, monkeypatch):
    """Maps are counted and cut before the first layer; then nothing is read from or sent to the device."""
    monkeypatch.setattr(torch_grouped, "BLOCK", (rows, 1 << 19))
    network, batch = moved(encoder(grid)), moved(scan())
    before: list[Counter[str]] = []
    layers = network.backbone.forward
    network.backbone.forward = lambda x: (before.append(Counter(TRAFFIC)), TRAFFIC.clear(), layers(x))[-1]
    with OtherDevice():
        TRAFFIC.clear()
        features = network(batch.points, batch.cloud, 2).features
        features.sum().backward()
        assert not TRAFFIC
        # five levels and four ways between them: how many pairs each has; and for all, where blocks cut them
        assert before[0]["tolist"] == 9 + (rows == 50)
        assert before[0]["aten::nonzero"] == 1 + 5
        assert before[0]["aten::_unique2"] == 4
        TRAFFIC.clear()
        torch_grouped.prepare(
            Pyramid.from_cells(moved(torch.ones(1, 9, 9, 9).nonzero()), (9, 9, 9), num_clouds=1).subm(0)
        )
        assert TRAFFIC  # alone, a map waits for its own


@pytest.mark.usefixtures("as_on_a_device")
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", PRETRAINERS)
def test_a_pretraining_step_stays_on_its_device(kind, grid):
    batch = collate([make_clip(0), make_clip(1)])
    inputs = ("intensity", "height", "range", "one", "age")
    gradients = []
    for place in (lambda value: value, moved):
        model = place(Pretrainer(encoder(grid, inputs), Fixed(), **PRETRAINERS[kind]))
        with OtherDevice():
            losses = model.loss(place(batch))
            losses["loss"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, there in zip(*gradients):
        assert isinstance(there, Elsewhere)
        assert torch.equal(there.inner, plain)


@pytest.mark.usefixtures("as_on_a_device")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_on": "voxels"},
        {"loss_on": "voxels", "voxel_label": "first"},
        {"limits": {"range_m": (2, 15)}, "class_weights": [1.0, 2.0, 3.0, 4.0]},
        {"freeze": True},
    ],
)
def test_fine_tuning_and_evaluation_stay_on_their_device(options):
    found = []
    for place in (lambda value: value, moved):
        torch.manual_seed(0)
        model, batch = place(Segmentor(encoder(), 4, **options)), place(scan())
        with OtherDevice():
            loss = model.loss(batch)["loss"]
            loss.backward()
            matrix = ConfusionMatrix(4)
            matrix.update(class_predictions(model.predict(batch)), batch.labels)
        found.append((float(loss.detach()), matrix.summary(list("abcd"))))
    assert found[0] == found[1]


@pytest.mark.usefixtures("as_on_a_device")
def test_probes_and_votes_take_features_of_another_device():
    points, labels = scan().points, scan().labels.clamp(max=3)
    there = moved(encoder())
    with OtherDevice():
        fresh = recalibrate_batch_norm(there, [points, points])
        source = EncoderFeatures(fresh, chunk_points=100)
        features = source(points)
        assert features.device == DEVICE
        assert torch.equal(source(points, torch.tensor([3, 1])).cpu(), features.cpu()[[3, 1]])
        probabilities = []
        for head in (
            fit_linear_probe(features.cpu(), labels, 4, iterations=5),
            fit_knn_probe(features.cpu(), labels, 4),
        ):
            probabilities.append(head.probabilities(features))
            assert torch.allclose(
                probabilities[-1].cpu(), head.probabilities(features.cpu()), rtol=1e-4, atol=1e-6
            )
        pose = np.eye(4)
        ballots = [Ballot(moved(points[:, :3]), rows, pose) for rows in probabilities]
        voted = vote(ballots[0], {1: ballots[1]}, VotingOptions.window(1))
        plain = [Ballot(points[:, :3], rows.cpu(), pose) for rows in probabilities]
    assert torch.equal(
        voted.probabilities.cpu(), vote(plain[0], {1: plain[1]}, VotingOptions.window(1)).probabilities
    )


@pytest.mark.usefixtures("as_on_a_device")
def test_a_backbone_gives_features_where_the_points_came_from():
    points = scan().points
    plain = Backbone(encoder(), BackboneCard("plain")).extract(points)
    with OtherDevice():
        backbone = Backbone(moved(encoder()), BackboneCard("there"))
        assert torch.equal(backbone.extract(points), plain)
        assert np.array_equal(backbone.extract(points.numpy()), plain.numpy())
        on_device = backbone.extract(moved(points))
        assert on_device.device == DEVICE
        assert torch.equal(on_device.cpu(), plain)
        assert backbone.extract(points[:0].numpy()).shape == (0, backbone.out_channels)


def test_a_teacher_follows_its_images():
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    plain = filter_bank("filter_bank")(images)
    with OtherDevice():
        there = moved(filter_bank("filter_bank"))(moved(images))
    assert there.device == DEVICE
    assert torch.allclose(there.cpu(), plain, atol=1e-6)
