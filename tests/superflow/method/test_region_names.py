"""A region keeps its name: in other clips, in other processes, in the queue. By it a row is no negative of itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_batch import make_clip, table_of, value, with_table

from superflow.camera.superpixels import write_superpixels
from superflow.clips.batch import Batch, collate
from superflow.clips.dataset import PretrainDataset
from superflow.clips.pairing import id_space
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.engine.config import load_config
from superflow.method.matches import Superpixels, Superpoints
from superflow.method.regions import region_table
from superflow.street.drive import DriveSettings, make_drive

SETTINGS = DriveSettings(seconds=1.5, seed=11, image_size=(48, 84), lidar_hz=4)
STILL = {"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)}


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> LogIndex:
    """Two scenes with three key frames each, so that every clip overlaps with others of its scene."""
    folder = tmp_path_factory.mktemp("names")
    root = make_drive(folder / "drive", scenes=2, settings=SETTINGS)
    return write_index(root, folder / "prepared")


def every_clip(index: LogIndex, **options) -> tuple[Batch, list[str]]:
    """A batch of all clips, and the token of each of its images."""
    tokens: list[str] = []
    dataset = PretrainDataset(
        index,
        clouds={"max_points": 1000, "sweeps": 0},
        views={"size": (48, 84), "flip": 0.0},
        cameras_per_clip=None,
        augmentation=STILL,
        **options,
    )
    view = dataset.views.view
    dataset.views.view = lambda camera, *given: (tokens.append(camera.token), view(camera, *given))[1]
    return collate([dataset[item, 0] for item in range(len(dataset))]).to("cpu"), tokens


def names_of(batch: Batch, scope: str, truths: list) -> dict[int, set[int]]:
    """Clips in which each name occurs; names and what pairs really show (None: not to be told) must be one to one."""
    table = region_table(batch, scope=scope)
    shown: dict[int, set] = {}
    named: dict = {}
    clips: dict[int, set[int]] = {}
    for pair, truth in enumerate(truths):
        row = int(table.region[pair])
        if row >= 0 and truth is not None:
            name = int(table.names[row])
            shown.setdefault(name, set()).add(truth)
            named.setdefault(truth, set()).add(name)
            clips.setdefault(name, set()).add(int(batch.image_clip[batch.pair_image[pair]]))
    assert len(shown) > 10
    assert {len(found) for found in [*shown.values(), *named.values()]} == {1}
    return clips


def test_a_world_cell_has_one_name_in_all_clips_of_its_scene(index):
    batch, _ = every_clip(index, region="world_cell", cell_m=2.0)
    frames = {
        token: index.frame(row, images=False) for row, token in enumerate(index.tokens(range(len(index))))
    }
    truths: list = []
    for point in batch.pair_point.tolist():
        frame = frames[batch.tokens[int(batch.cloud[point])]]
        world = (frame.lidar_to_world @ np.append(batch.points[point, :3].double().numpy(), 1.0))[:3] / 2.0
        # a point on a border may fall to either side once its coordinates were rounded to float32
        off = np.abs(world - np.round(world)).min() > 1e-3
        truths.append((frame.scene, *np.floor(world).astype(int).tolist()) if off else None)
    clips = names_of(batch, "clip", truths)
    assert np.mean([len(found) > 1 for found in clips.values()]) > 0.3  # clips of a scene share their street
    assert not any(min(found) < 3 <= max(found) for found in clips.values())  # and the scenes nothing


@pytest.mark.parametrize("shared_ids", [False, True])
def test_a_superpixel_has_the_name_of_its_image_and_a_class_one_everywhere(index, tmp_path, shared_ids):
    write_superpixels(index.cameras(range(len(index))), tmp_path, provider="slic", segments=12, workers=0)
    record = json.loads((tmp_path / "superpixels.json").read_text())
    (tmp_path / "superpixels.json").write_text(json.dumps(record | {"shared_ids": shared_ids}))
    batch, tokens = every_clip(index, region="superpixel", superpixels=tmp_path)
    ids = batch.pair_region.tolist()
    images = [tokens[image] for image in batch.pair_image.tolist()]
    truths = ids if shared_ids else list(zip(images, ids))
    for scope in ("image", "clip", "batch") if shared_ids else ("image",):
        clips = names_of(batch, scope, truths)
        # an image is in the clips of its neighbours, too
        assert max(len(found) for found in clips.values()) > 1


def test_names_are_the_same_in_every_process():
    """Numbers that hang on nothing but the words: not on the process's seed of hashes, nor on the platform."""
    assert id_space("scene-0001", "0.5 m") == SCENE_0001
    assert len({id_space("ab", "c"), id_space("a", "bc"), id_space("abc")}) == 3
    assert all(0 <= id_space(str(number)) < 2**63 for number in range(100))


SCENE_0001 = 1377528937009120139


def test_ids_that_are_counted_anew_say_in_what():
    batch = replace(make_clip(0), id_scope="image", image_space=None)
    with pytest.raises(
        ValueError, match="within one image only, and the batch does not say in which: give image_space"
    ):
        region_table(batch, scope="image")
    classes = region_table(replace(make_clip(0), image_space=None), scope="clip")
    assert torch.equal(classes.names, classes.ids)


def test_ids_of_63_bits_have_rows_of_their_own():
    batch = collate([make_clip(0), make_clip(1)])
    large = torch.tensor([2**63 - 1, 5, 2**62, 2**40, 0, 2**63 - 2])[batch.pair_region]
    table = region_table(replace(batch, pair_region=large))
    assert torch.equal(table.ids[table.region], large)
    assert torch.equal(table.owner[table.region], batch.image_clip[batch.pair_image])
    assert len(table.ids) == 12
    order = list(zip(table.owner.tolist(), table.ids.tolist()))
    assert order == sorted(order)


CLIPS, CLASSES = 32, 17  # of 8 GPUs with a batch of 4
CONFIGS = {
    "pretrain/superflowpp_masks.py": "ignored",
    "pretrain/superflowpp.py": "ignored",
    "pretrain/superflowpp_small.py": "ignored",
    "pretrain/superflow.py": "negative",  # as published
    "pretrain/superflow_small.py": "negative",
    "pretrain/slidr_small.py": "negative",
}


def perfect(clips: int) -> dict:
    """Regions of all classes in all clips, with the same feature for a class everywhere: nothing is left to learn."""
    groups = [(-1, False), (0, False), (1, False), (0, True)]
    features = torch.eye(CLASSES).repeat(clips, 1)
    ones = torch.ones(4, len(features))
    table = table_of(torch.arange(CLASSES).repeat(clips), groups)
    return {
        Superpoints: Superpoints(table, features.expand(4, -1, -1), ones, features[:, :0]),
        Superpixels: Superpixels(table, features.expand(3, -1, -1), ones[:3]),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_mistake_24_perfect_features_have_no_loss_unless_published_so(name):
    contrasts = [dict(entry) for entry in load_config(name).model.objectives if entry.get("kind") != "cosine"]
    assert {entry.get("same_id", "negative") for entry in contrasts} == {CONFIGS[name]}
    for entry in contrasts:
        clips = CLIPS if entry.get("gather", True) else 4  # published: only those of the same GPU
        options = entry | {"temperature": 0.05, "max_rows": None}
        loss = float(value(options.pop("type"), perfect(clips), **options))
        assert loss == pytest.approx(0 if CONFIGS[name] == "ignored" else math.log(clips), abs=1e-3)


def test_rows_of_a_batchwide_region_on_other_ranks_are_no_negatives():
    """Within a process such a region has one row; gathered, each rank brings one."""
    loss = {
        scope: float(value("spatial", with_table(perfect(4), scope=scope))) for scope in ("clip", "batch")
    }
    assert loss["clip"] == pytest.approx(math.log(4), abs=1e-3)
    assert loss["batch"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["temporal", "cross_temporal"])
def test_regions_of_single_images_have_no_terms_over_time(name):
    """They would be 0 in every step, and nothing would be learned without a word."""
    with pytest.raises(ValueError, match='with region scope "image" no region is in two images'):
        value(name, with_table(perfect(1), scope="image"))
