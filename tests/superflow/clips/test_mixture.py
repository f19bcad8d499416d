"""Two logs in one training set: five columns and two cameras beside four columns and one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from superflow.camera.superpixels import write_superpixels
from superflow.clips.batch import collate
from superflow.clips.dataset import PretrainDataset
from superflow.clips.mixture import MixtureDataset
from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.records import CameraRow, Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError
from superflow.hub.checkpoint import check_intensity
from superflow.hub.encoder_file import EncoderFile
from superflow.lidar.limits import Limits
from superflow.method.regions import region_table
from superflow.tools.prepare import main

FORWARD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # camera to ego
CARDS = {"one": "semantickitti", "two": "nuscenes"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, LogIndex]:
    """Three scans each of points before a camera; both call their scene by one name."""
    made = {}
    for name, card_name in CARDS.items():
        card, folder = load_card(card_name), tmp_path_factory.mktemp(name)
        rng = np.random.default_rng(list(CARDS).index(name))
        rows = []
        for number in range(3):
            xyz = rng.uniform([5, -3, -1], [30, 3, 2], (200, 3))
            if name == "two":
                xyz = np.column_stack([-xyz[:, 1], xyz[:, 0], xyz[:, 2]])
            columns = np.full((200, len(card.columns)), 0.5)
            columns[:, :3] = xyz
            columns.astype("<f4").tofile(folder / f"{number}.bin")
            image = rng.integers(0, 256, (40, 80, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), image)
            intrinsics = np.array([[40.0, 0, 40], [0, 40, 20], [0, 0, 1]])
            pose = np.eye(4)
            cameras = tuple(
                CameraRow(
                    f"c{i}", f"{number}_{i}", Place(f"{number}.png"), intrinsics, FORWARD, (40, 80), 0, pose
                )
                for i in range(1 if name == "one" else 2)
            )
            points = Place(f"{number}.bin")
            rows.append(
                ScanRow(
                    "street",
                    f"s{number}",
                    number,
                    points,
                    pose,
                    time_us=number * 10**5,
                    ego_to_world=pose,
                    cameras=cameras,
                )
            )
        write_rows(folder, folder / "index", ListedLog(name, card, rows))
        made[name] = LogIndex.open(folder / "index")
    return made


def options(index: LogIndex, **more) -> dict:
    clouds, views = {"sweeps": 0}, {"size": (20, 40), "flip": 0.0}
    return {"index": index, "region": "world_cell", "clouds": clouds, "views": views, **more}


def test_clips_of_both_logs_share_a_batch(logs):
    mixture = MixtureDataset([options(logs["one"]), options(logs["two"])])
    clips = [mixture[(item, 5)] for item in range(6)]
    kinds = Counter(clip.tokens[0].rsplit("/", 1)[0] for clip in clips)
    assert kinds.keys() == {"semantickitti/clean", "nuscenes/clean"}
    batch = collate(clips)
    assert batch.points.shape[1] == 4
    spaces = {kind: set() for kind in kinds}
    for clip in clips:
        assert len(clip.pair_point) > 0
        spaces[clip.tokens[0].rsplit("/", 1)[0]] |= set(clip.image_space.tolist())
    assert not set.intersection(*spaces.values())  # "street" of one log is not that of the other
    assert [part["dataset"] for part in mixture.record()["parts"]] == ["semantickitti", "nuscenes"]


@pytest.mark.parametrize("provider", ["clusters", "masks"])
def test_mistake_23_clusters_of_two_codebooks_share_but_a_number(logs, tmp_path, provider):
    """Classes that another program gave both logs are the same in both."""
    parts = []
    for name, index in logs.items():
        made = {"teacher": "filter_bank", "clusters": 3, "segments": 8, "size": (16, 32)}
        cameras = index.cameras()
        if provider == "masks":
            made = {"source": tmp_path / f"classes {name}", "shared_ids": True}
            made["source"].mkdir()
            for camera in cameras:
                halves = np.repeat(np.arange(2, dtype=np.uint8), 40)[None].repeat(40, axis=0)
                cv2.imwrite(str(made["source"] / f"{camera.token}.png"), halves)
        write_superpixels(cameras, tmp_path / name, provider=provider, **made)
        parts.append(options(index, region="superpixel", superpixels=tmp_path / name))
    mixture = MixtureDataset(parts)
    batch = collate([mixture[(item, 5)] for item in range(6)]).to("cpu")
    by_log: dict[str, set[int]] = {"semantickitti": set(), "nuscenes": set()}
    for scope in ("clip", "batch"):
        table = region_table(batch, scope=scope)
        assert len(table.ids) == len(table.names.unique()) or scope == "clip"
        for point, region in zip(batch.pair_point.tolist(), table.region.tolist()):
            log = batch.tokens[int(batch.cloud[point])].partition("/")[0]
            by_log[log].add(int(table.names[region]))
        assert all(len(names) > 1 for names in by_log.values())
        one, two = by_log.values()
        assert (not one & two) if provider == "clusters" else one == two == {0, 1}


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> LogIndex:
    """Two scans of five columns, of a log without cameras, times and poses."""
    folder, card = tmp_path_factory.mktemp("bare"), load_card("nuscenes")
    rows = []
    for number in range(2):
        np.random.default_rng(number).uniform(1, 20, (150, 5)).astype("<f4").tofile(folder / f"{number}.bin")
        rows.append(ScanRow("lane", f"b{number}", number, Place(f"{number}.bin"), np.eye(4)))
    write_rows(folder, folder / "index", ListedLog("bare", card, rows))
    return LogIndex.open(folder / "index")


def without_images(index: LogIndex, **more) -> dict:
    return {"index": index, "images": False, "clouds": {"sweeps": 0}, "times": {"unit": "frames"}, **more}


def test_a_log_without_cameras_is_beside_others(logs, bare):
    mixture = MixtureDataset([without_images(bare, weight=2), options(logs["one"])])
    clips = [mixture[(item, 1)] for item in range(12)]
    blind = [clip for clip in clips if clip.tokens[0].startswith("nuscenes")]
    seeing = [clip for clip in clips if clip.tokens[0].startswith("semantickitti")]
    assert min(len(blind), len(seeing)) > 1
    assert all(len(clip.images) == len(clip.pair_point) == 0 for clip in blind)
    batch = collate([blind[0], seeing[0], blind[1], seeing[1]])
    alone = collate(seeing[:2])
    assert torch.equal(batch.images, alone.images)
    assert torch.equal(batch.points[batch.pair_point], alone.points[alone.pair_point])
    assert torch.equal(batch.pair_image, alone.pair_image)
    clip_of_point = batch.cloud_clip[batch.cloud[batch.pair_point].long()]
    assert torch.equal(clip_of_point, batch.image_clip[batch.pair_image.long()])
    assert clip_of_point.unique().tolist() == [1, 3]
    only = collate(blind[:2])
    assert (only.images.shape[1:], only.view_size) == (alone.images.shape[1:], alone.view_size)
    own = PretrainDataset(**without_images(bare))[0]
    assert own.images is own.pair_point is None
    kept = replace(own, points=own.points[:, :4])
    assert torch.equal(collate([kept, seeing[0]]).pair_point, seeing[0].pair_point + len(own.points))
    with pytest.raises(InputError, match="all parts have images=False"):
        MixtureDataset([without_images(bare)])
    with pytest.raises(
        InputError, match=r"has a camera image, .* or set images=False for this log beside others"
    ):
        MixtureDataset([options(logs["one"]), without_images(bare, images=True, region="superpixel")])


def test_features_of_logs_that_are_mixed(logs, tmp_path, capsys):
    """What the refusal advises is a command, and does it; nothing else makes their channels mean the same."""

    def features(name: str, *more: str) -> dict:
        folder = tmp_path / "_".join([name, *(Path(word).name for word in more)])
        make = [
            "features",
            "--index",
            str(logs[name].folder),
            "--teacher",
            "filter_bank",
            "--out",
            str(folder),
        ]
        assert main([*make, "--size", "40", "80", *more]) == 0
        return options(logs[name], views={"size": (20, 40), "flip": 0.0, "features": str(folder)})

    first = features("one", "--components", "8")
    alike = features("two", "--reduction-of", first["views"]["features"])
    mixture = MixtureDataset([first, alike])
    assert {mixture[(item, 0)].images.shape[1] for item in range(6)} == {8}
    for unlike in (features("two", "--components", "8"), features("two", "--components", "0")):
        with pytest.raises(InputError, match="with `superflow prepare features --reduction-of` the folder"):
            MixtureDataset([first, unlike])
    both = [
        "features",
        "--index",
        str(logs["two"].folder),
        "--fit-frames",
        "street",
        "--reduction-of",
        "first",
    ]
    assert main(both) == 2
    assert "--fit-frames: nothing is fitted with --reduction-of" in capsys.readouterr().err


def test_a_camera_has_one_number_at_all_times(logs, tmp_path):
    """Also where another one has no image at one of them: regions of a camera would be those of its neighbour."""
    card, rows, shown = load_card("semantickitti"), [], {}
    intrinsics = np.array([[40.0, 0, 40], [0, 40, 20], [0, 0, 1]])
    for number in range(3):
        np.random.default_rng(number).uniform(5, 9, (50, 4)).astype("<f4").tofile(tmp_path / f"{number}.bin")
        cameras = []
        for channel in range(3):
            shade = 30 * number + 10 * channel + 5
            shown[shade] = (number - 1, channel)
            name = f"{number}_{channel}"
            cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((40, 80, 3), shade, np.uint8))
            cameras.append(
                CameraRow(f"c{channel}", name, Place(f"{name}.png"), intrinsics, FORWARD, (40, 80))
            )
        seen = tuple(cameras[number == 0 :])  # the first scan has no image of the first camera
        place, pose = Place(f"{number}.bin"), np.eye(4)
        facts = {"time_us": number * 10**5, "ego_to_world": pose, "cameras": seen}
        rows.append(ScanRow("street", f"s{number}", number, place, pose, **facts))
    write_rows(tmp_path, tmp_path / "index", ListedLog("one", card, rows))
    dataset = PretrainDataset(**options(LogIndex.open(tmp_path / "index")))
    channel_of = {}
    for seed in range(4):
        clip = dataset[(1, seed)]
        assert len(clip.images) == 8
        for image, offset, number in zip(clip.images, clip.image_offset.tolist(), clip.image_camera.tolist()):
            at, channel = shown[int(image[0, 0, 0])]
            assert at == offset
            assert channel_of.setdefault((seed, number), channel) == channel


def test_weights_say_how_often_a_log_is_drawn(logs):
    mixture = MixtureDataset([options(logs["one"], weight=3), options(logs["two"])])
    assert len(mixture) == 6
    drawn = Counter(mixture[(0, seed)].tokens[0].split("/")[0] for seed in range(200))
    assert 130 <= drawn["semantickitti"] <= 170


def test_an_item_is_its_seed(logs):
    mixture = MixtureDataset([options(logs["one"]), options(logs["two"])])
    again = MixtureDataset([options(logs["one"]), options(logs["two"])])
    one, other = mixture[(1, 9)], again[(1, 9)]
    assert one.tokens == other.tokens
    assert torch.equal(one.points, other.points)


@pytest.mark.parametrize("raw", [False, True])
def test_the_card_of_a_backbone_says_what_all_logs_gave(logs, raw):
    """Without it, one that learned from 0..255 is given 0..1, and one that saw 30 m looks everywhere."""
    near, far = dict(range_m=(0.0, 30.0)), dict(range_m=(0.0, 50.0))
    parts = [options(logs[name], raw_intensity=raw, limits=near) for name in CARDS]
    record = MixtureDataset(parts).record()
    card = {"data": {"train": record}}
    assert EncoderFile(Path("run.pth"), {}, {}, card).raw_intensity is raw
    assert record["limits"] == record["parts"][0]["limits"] == Limits.from_record(near).record()
    assert MixtureDataset([parts[0], {**parts[1], "limits": far}]).record()["limits"] is None
    check_intensity(raw, card["data"], "run.pth")
    with pytest.raises(
        InputError, match=r"train_dataloader.dataset gives .*set train_dataloader.dataset.raw"
    ):
        check_intensity(not raw, card["data"], "run.pth")


def test_what_cannot_be_mixed_is_named(logs):
    with pytest.raises(InputError, match="some parts have raw_intensity=True and others not"):
        MixtureDataset([options(logs["one"]), options(logs["two"], raw_intensity=True)])
    with pytest.raises(InputError, match="parts is empty"):
        MixtureDataset([])
    with pytest.raises(InputError, match=r"weights of the parts are \[0\]"):
        MixtureDataset([options(logs["one"], weight=0)])
    with pytest.raises(InputError, match=r"the parts differ in views\.size"):
        MixtureDataset([options(logs["one"]), options(logs["two"], views={"size": (10, 40)})])
