"""Quality figures against plain loops, on a made frame whose cameras overlap, and on a real one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest

from superflow.camera.occlusion import scan_surface
from superflow.camera.projection import nearest_pixels, project
from superflow.camera.superpixels import IGNORE, quality_report, read_superpixels, write_superpixels
from superflow.camera.superpixels.quality import adjusted_rand
from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Camera, Frame
from superflow.datasets.records import Lens
from superflow.progress import silent

SIZE = (40, 60)
INTRINSICS = np.array([[40.0, 0, 29.5], [0, 40.0, 19.5], [0, 0, 1]])
LENS = Lens(INTRINSICS, SIZE)


def make_frames(cameras: int = 2) -> list[Frame]:
    """Two frames; their cameras look forward from 0.5 m beside each other, so that most points are seen twice."""
    generator = np.random.default_rng(0)
    forward = np.array([[0, 0, 1.0, 0], [-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    frames = []
    for number in range(2):
        points = generator.uniform((4, -3, -2), (12, 3, 2), (400, 3)).astype(np.float32)
        labels = np.where(
            generator.random(400) < 0.1, 255, (points[:, 1] > 0) + 2 * (points[:, 2] > 0)
        ).astype(np.uint8)
        views = []
        for c in range(cameras):
            camera_to_ego = forward.copy()
            camera_to_ego[1, 3] = 0.5 * c
            views.append(Camera(f"f{number}c{c}", f"C{c}", 0, INTRINSICS, camera_to_ego, np.eye(4), "", SIZE))
        frames.append(
            Frame(
                f"f{number}",
                "s",
                0,
                True,
                Cloud.from_table(points),
                np.eye(4),
                np.eye(4),
                tuple(views),
                labels,
            )
        )
    return frames


def write_maps(frames: list[Frame], folder, *, shared: bool) -> None:
    """Random blocks of ids, some of them ignored, and the record that quality_report asks for."""
    generator = np.random.default_rng(1)
    folder.mkdir()
    (folder / "superpixels.json").write_text(
        f'{{"schema": 2, "options": {{}}, "shared_ids": {str(shared).lower()}}}'
    )
    for frame in frames:
        for camera in frame.cameras:
            blocks = generator.choice([0, 1, 2, 500, IGNORE], (4, 6)).astype(np.uint16)
            cv2.imwrite(str(folder / f"{camera.token}.png"), np.kron(blocks, np.ones((10, 10), np.uint16)))


def pair_table(frames: list[Frame], folder, *, hide: bool) -> list[dict]:
    """One entry a pair: the whole input of the figures, made point by point."""
    pairs = []
    for frame in frames:
        for camera in frame.cameras:
            ids = read_superpixels(folder, camera.token, SIZE)
            view = (frame.lidar_to_camera(camera), LENS)
            seen = project(frame.points, *view)
            visible = ~scan_surface(frame.points).hides(seen, *view) if hide else np.ones(len(seen), bool)
            for row, (u, v) in zip(seen.rows[visible], nearest_pixels(seen.pixels[visible], SIZE)):
                entry = {"frame": frame.token, "image": camera.token, "point": row}
                pairs.append(entry | {"id": int(ids[v, u]), "label": int(frame.labels[row])})
    return pairs


def commonest(pairs: list[dict], key) -> dict:
    """Class of most labelled pairs for every value of ``key``; the smallest class among equals."""
    votes: dict = {}
    for pair in pairs:
        if pair["label"] != 255:
            votes.setdefault(key(pair), []).append(pair["label"])
    return {k: max(sorted(set(v)), key=v.count) for k, v in votes.items()}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("hide", [True, False])
def test_matches_plain_counting(tmp_path, shared, hide):
    frames = make_frames()
    write_maps(frames, tmp_path / "maps", shared=shared)
    report = quality_report(frames, tmp_path / "maps", hide=hide)
    every = pair_table(frames, tmp_path / "maps", hide=hide)
    pairs = [pair for pair in every if pair["id"] != IGNORE]
    assert report.coverage == pytest.approx(len(pairs) / len(every))
    assert 0.5 < report.coverage < 0.95

    def in_image(pair: dict) -> tuple:
        return pair["image"], pair["id"]

    labelled = [pair for pair in pairs if pair["label"] != 255]
    best = commonest(pairs, in_image)
    assert report.purity == pytest.approx(np.mean([best[in_image(p)] == p["label"] for p in labelled]))
    best_log = commonest(pairs, lambda pair: pair["id"])
    purity_log = np.mean([best_log[p["id"]] == p["label"] for p in labelled])
    assert report.purity_log == (pytest.approx(purity_log) if shared else None)

    doubles = [
        (a, b) for a, b in combinations(pairs, 2) if (a["frame"], a["point"]) == (b["frame"], b["point"])
    ]
    assert report.double_views == len(doubles) > 100
    same_id = np.mean([a["id"] == b["id"] for a, b in doubles])
    assert report.view_ids == (pytest.approx(same_id) if shared else None)
    known = [(a, b) for a, b in doubles if a["label"] != 255]
    assert report.view_classes == pytest.approx(
        np.mean([best[in_image(a)] == best[in_image(b)] for a, b in known])
    )
    hit = {in_image(pair) for pair in pairs}
    sizes = [sum(in_image(pair) == key for pair in pairs) for key in hit]
    assert report.points_a_region == np.median(sizes)
    assert report.hit == len(hit) / 4
    assert report.images == 4


def test_equal_maps_agree_and_shuffled_ones_do_not(tmp_path):
    """One region a world quadrant: with shared ids the two views agree up to the borders."""
    frames = make_frames()
    folder = tmp_path / "maps"
    write_maps(frames, folder, shared=True)
    generator = np.random.default_rng(0)
    for frame in frames:
        for camera in frame.cameras:
            ids = np.zeros(SIZE, np.uint16)
            for row, (u, v) in zip(*pixels_of(frame, camera)):
                ids[v, u] = frame.points[row, 1] > 0
            cv2.imwrite(str(folder / f"{camera.token}.png"), ids)
    good = quality_report(frames, folder, hide=False)
    assert good.view_ids > 0.9
    assert good.view_partition > 0.7
    for frame in frames:
        for camera in frame.cameras:
            cv2.imwrite(str(folder / f"{camera.token}.png"), generator.integers(0, 2, SIZE).astype(np.uint16))
    bad = quality_report(frames, folder, hide=False)
    assert bad.view_ids == pytest.approx(0.5, abs=0.1)
    assert bad.view_partition == pytest.approx(0, abs=0.03)


def pixels_of(frame: Frame, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    seen = project(frame.points, frame.lidar_to_camera(camera), LENS)
    return seen.rows, nearest_pixels(seen.pixels, SIZE)


def test_without_labels_or_overlap_there_are_fewer_figures(tmp_path):
    frames = [replace(frame, labels=None, cameras=frame.cameras[:1]) for frame in make_frames()]
    write_maps(frames, tmp_path / "maps", shared=True)
    report = quality_report(frames, tmp_path / "maps")
    assert (
        report.purity
        is report.purity_log
        is report.view_classes
        is report.view_ids
        is report.view_partition
        is None
    )
    assert report.coverage is not None
    assert "purity           -" in report.table()
    empty = quality_report([], tmp_path / "maps")
    assert empty.images == 0
    assert empty.coverage is None


def test_adjusted_rand_matches_counting_pairs_of_points():
    generator = np.random.default_rng(0)
    for _ in range(10):
        a, b = generator.integers(0, 4, (2, 30))
        b = np.where(generator.random(30) < 0.6, a, b)
        same_a, same_b = ([x[i] == x[j] for i, j in combinations(range(30), 2)] for x in (a, b))
        both, one, other = np.sum(np.logical_and(same_a, same_b)), np.sum(same_a), np.sum(same_b)
        chance = one * other / len(same_a)
        expected = (both - chance) / ((one + other) / 2 - chance)
        assert adjusted_rand(a, b) == pytest.approx(expected)
        assert adjusted_rand(a * 7 + 100, b) == pytest.approx(expected)
    assert adjusted_rand(a, a) == 1
    assert adjusted_rand(a[:1], a[:1]) is None
    assert adjusted_rand(np.zeros(5, int), np.zeros(5, int)) is None


def test_slic_on_a_real_frame(pandaset, tmp_path):
    """Regions of a street follow its objects: purer than blocks of the same number, and cover every point."""
    frame = pandaset.frame(50)
    frame = replace(frame, labels=np.where(frame.labels == 0, 255, frame.labels).astype(np.uint8))
    write_superpixels(frame.cameras, tmp_path / "slic", progress=silent)
    good = quality_report([frame], tmp_path / "slic")
    assert good.coverage == 1
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "superpixels.json").write_text('{"schema": 2, "options": {}, "shared_ids": false}')
    for camera in frame.cameras:
        row, column = np.mgrid[: camera.size[0], : camera.size[1]]
        cv2.imwrite(
            str(tmp_path / "blocks" / f"{camera.token}.png"),
            (row // 42 * 100 + column // 42).astype(np.uint16),
        )
    blocks = quality_report([frame], tmp_path / "blocks")
    assert blocks.regions == pytest.approx(good.regions, rel=0.3)
    assert good.purity > blocks.purity + 0.01
    assert good.purity > 0.85
    assert good.view_classes > 0.8
