"""What stands still by its track: against loops over points and boxes, and what voting makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from superflow.datasets.frame import Boxes
from superflow.downstream.features import read_scan
from superflow.downstream.pseudo_labels import PseudoLabelFiles
from superflow.downstream.tracks import points_in_boxes, standing_points
from superflow.downstream.vote_log import evaluate_voting
from superflow.downstream.voting import Ballot, VotingOptions, neighbour_rows, vote
from superflow.errors import InputError
from superflow.geometry import make_transform

ROAD, WALL, CAR, CLASSES = 0, 1, 2, 4
GUARDED = VotingOptions(voxel_m=0.7, thing_classes=(CAR,))
TRACKED = VotingOptions(voxel_m=0.7, thing_classes=(CAR,), tracks=True)
# as if a wall could move
WALLS = {"voxel_m": 0.7, "thing_classes": (WALL, CAR), "alpha": 0.0, "min_votes": 1}


class Drive:
    """Frames of one scene, each with the boxes given for it; None where a frame has no boxes."""

    def __init__(self, *frames: Boxes | None) -> None:
        self.frames = frames

    def boxes(self, row):
        return self.frames[row]

    def neighbour(self, row, offset):
        return row + offset if 0 <= row + offset < len(self.frames) else None

    def tokens(self, rows):
        return [f"token{row}" for row in rows]


def cubes(**places) -> Boxes:
    """Cubes of 2 m, track -> centre."""
    count = len(places)
    return Boxes.placed(
        centers=np.array(list(places.values()), dtype=np.float64).reshape(count, 3),
        sizes=np.full((count, 3), 2.0),
        rotations=np.tile([1.0, 0, 0, 0], (count, 1)),
        categories=("thing",) * count,
        tracks=tuple(places),
    )


def random_boxes(generator, tracks) -> Boxes:
    count = len(tracks)
    return Boxes.placed(
        centers=generator.uniform(-6, 6, (count, 3)),
        sizes=generator.uniform(2, 6, (count, 3)),
        rotations=Rotation.random(count, random_state=generator).as_quat()[:, [3, 0, 1, 2]],
        categories=("thing",) * count,
        tracks=tuple(tracks),
    )


def is_inside(boxes, box, point) -> bool:
    """One point, one box: its shares along the edges of the box."""
    w, x, y, z = boxes.rotations[box]
    edges = Rotation.from_quat([x, y, z, w]).as_matrix().T
    away = point - boxes.centers[box]
    return all(abs(float(edge @ away)) <= size / 2 for edge, size in zip(edges, boxes.sizes[box]))


def slow_standing(drive, row, offsets, world, max_m) -> list[bool]:
    """Point after point, box after box, frame after frame."""
    boxes = drive.boxes(row)
    answers = []
    for point in world:
        inside = [box for box in range(len(boxes)) if is_inside(boxes, box, point)]
        stands = []
        for box in inside:
            lengths = []
            for offset in offsets:
                other = drive.neighbour(row, offset)
                if other is not None and boxes.tracks[box] in drive.boxes(other).tracks:
                    there = drive.boxes(other).tracks.index(boxes.tracks[box])
                    lengths.append(np.linalg.norm(drive.boxes(other).centers[there] - boxes.centers[box]))
            stands.append(bool(lengths) and max(lengths) < max_m)
        answers.append(bool(inside) and all(stands))
    return answers


@pytest.mark.parametrize("seed", range(4))
def test_matches_loops_over_points_boxes_and_frames(seed):
    generator = np.random.default_rng(seed)
    now = random_boxes(generator, "abcdefg")
    frames = []
    for tracks in ("abcdx", "badcef", "yfba"):  # in other orders, some gone, some new
        frame = random_boxes(generator, tracks)
        for at, track in enumerate(tracks):
            if track in now.tracks:
                step = generator.normal(size=3) * (0.02 if track in "abe" else 1.0)
                frame.centers[at] = now.centers[now.tracks.index(track)] + step
        frames.append(frame)
    drive = Drive(frames[0], frames[1], now, frames[2])
    lidar_to_world = make_transform(generator.normal(size=4), (3.0, -2.0, 1.0))
    world = generator.uniform(-8, 8, (400, 3))
    points = (world - lidar_to_world[:3, 3]) @ lidar_to_world[:3, :3]
    offsets = (-2, -1, 1, 2)
    got = standing_points(drive, 2, offsets, points, lidar_to_world, max_m=0.2)
    assert got.tolist() == slow_standing(drive, 2, offsets, world, 0.2)
    in_any = {row for rows in points_in_boxes(now, world) for row in rows.tolist()}
    assert 0 < int(got.sum()) < len(in_any), "some stand, others are in boxes and do not"


def test_points_in_boxes_match_a_loop_over_points():
    generator = np.random.default_rng(5)
    boxes, world = random_boxes(generator, "abcdef"), generator.uniform(-6, 6, (1000, 3))
    for box, rows in enumerate(points_in_boxes(boxes, world)):
        want = [row for row in range(len(world)) if is_inside(boxes, box, world[row])]
        assert sorted(rows.tolist()) == want != []


@pytest.mark.parametrize(
    ("frames", "stands"),
    [
        ({1: (0.19, 0, 0)}, True),
        ({1: (0.2, 0, 0)}, False),
        ({1: (0.15, 0.15, 0)}, False),
        ({0: (0, 0, 0), 1: (0, 0, 0.3)}, False),
        ({0: (0, 0, 0), 1: None}, True),
        ({0: None, 1: None}, False),
        ({2: (5, 0, 0), 1: (0, 0, 0)}, True),  # frame 2 does not vote
    ],
    ids=["below", "at the limit", "aslant", "in one of two", "absent from one", "nowhere else", "outside"],
)
def test_a_track_stands_through_all_voting_frames_that_have_it(frames, stands):
    """Frame 1 is one after, frame 0 one before; the scan is in between."""
    before, after, later = ({"a": place} if (place := frames.get(i)) else {} for i in (0, 1, 2))
    drive = Drive(cubes(**before), cubes(a=(0, 0, 0)), cubes(**after), cubes(**later))
    points = np.array([[0.5, 0.5, 0.5], [1.5, 0, 0]], dtype=np.float32)
    got = standing_points(drive, 1, (-1, 1), points, np.eye(4), max_m=0.2)
    assert got.tolist() == [stands, False]


def test_where_a_walker_s_box_touches_a_standing_one_nothing_is_known():
    there, away = cubes(car=(0, 0, 0), walker=(1.5, 0, 0)), cubes(car=(0, 0, 0), walker=(4, 0, 0))
    points = np.array([[-0.5, 0, 0], [0.8, 0, 0], [2.0, 0, 0]])
    assert standing_points(Drive(there, away), 0, (1,), points, np.eye(4), max_m=0.2).tolist() == [
        True,
        False,
        False,
    ]


def test_scans_without_points_and_frames_without_things():
    empty, thing = Drive(cubes(), cubes()), Drive(cubes(a=(0, 0, 0)), cubes(a=(0, 0, 0)))
    assert standing_points(empty, 0, (1,), np.zeros((3, 4)), np.eye(4), max_m=0.2).tolist() == [False] * 3
    assert standing_points(thing, 0, (1,), np.zeros((0, 4)), np.eye(4), max_m=0.2).shape == (0,)


# ---- what the vote makes of it --------------------------------------------------------------------------------


def certain(log, row, of_class) -> Ballot:
    scan = read_scan(log, row)
    probabilities = torch.full((len(scan.points), CLASSES), 0.1)
    probabilities[:, of_class] = 0.7
    return Ballot(scan.points[:, :3], probabilities, scan.lidar_to_world)


def standing(log, row) -> torch.Tensor:
    scan = read_scan(log, row)
    offsets = tuple(neighbour_rows(log, row, TRACKED.offsets))
    return torch.from_numpy(
        standing_points(log, row, offsets, scan.points.numpy(), scan.lidar_to_world, max_m=TRACKED.voxel_m)
    )


def test_the_guard_is_lifted_in_the_standing_box_and_kept_in_the_driving_one(log):
    car, wall = points_in_boxes(log.boxes(2), read_scan(log, 2).world)
    others = {
        offset: certain(log, row, CAR) for offset, row in neighbour_rows(log, 2, (-2, -1, 1, 2)).items()
    }
    still = standing(log, 2)
    assert sorted(still.nonzero()[:, 0].tolist()) == sorted(wall.tolist()) != []
    own = certain(log, 2, ROAD)
    kept, lifted = vote(own, others, GUARDED), vote(own, others, TRACKED, still=still)
    assert not kept.heeded.any(), "the scan says road, its neighbours say car"
    assert torch.equal(lifted.heeded, still & (lifted.votes >= 2))
    assert lifted.heeded[wall].all()
    assert (lifted.votes[car] >= 2).any(), "the driving car passed through its own places"
    assert torch.equal(lifted.probabilities[car], own.probabilities[car])
    agreed = vote(certain(log, 2, CAR), others, TRACKED, still=still)
    assert (agreed.heeded[car] == (agreed.votes[car] >= 2)).all(), "agreement suffices, also for what drives"


def test_a_vote_with_tracks_wants_to_know_what_stands(log):
    own = certain(log, 2, ROAD)
    still = torch.zeros(len(own.xyz), dtype=torch.bool)
    with pytest.raises(ValueError, match="tracks is True, so still must be given"):
        vote(own, {}, TRACKED)
    with pytest.raises(ValueError, match="tracks is False, so still must be None"):
        vote(own, {}, GUARDED, still=still)
    with pytest.raises(ValueError, match=r"still has shape \(5,\) for 880 points"):
        vote(own, {}, TRACKED, still=still[:5])


def blind_at_times(scan) -> torch.Tensor:
    """Knows the wall by its place, but every second scan takes all for road."""
    seeing = round(float(scan.lidar_to_world[0, 3])) % 2  # the vehicle moves 1 m between frames
    guess = torch.from_numpy(scan.world[:, 1] > 5.5).long() * WALL * seeing
    return torch.nn.functional.one_hot(guess, CLASSES).float() * 0.6 + 0.1


def test_scores_along_a_log_use_the_tracks_and_say_so(log):
    asked: list[int] = []
    plain = log.boxes
    log.boxes = lambda row: asked.append(int(row)) or plain(row)
    variants = {"guarded": VotingOptions(**WALLS), "tracked": VotingOptions(**WALLS, tracks=True)}
    result = evaluate_voting(log, [2], blind_at_times, variants, labelled_rows=[0])["variants"]
    assert set(asked) == {1, 2, 3, 4}, "what the frames that do not vote know is left alone"
    guarded, tracked = result["guarded"], result["tracked"]
    assert tracked["coverage"] > guarded["coverage"]
    assert tracked["scores"]["iou"]["wall"] > guarded["scores"]["iou"]["wall"] + 5
    assert [part["options"]["tracks"] for part in (guarded, tracked)] == [False, True]


def test_pseudo_labels_use_the_tracks_and_say_so(log, tmp_path):
    labels = {}
    for tracks in (False, True):
        folder = tmp_path / str(tracks)
        options = VotingOptions(**WALLS, tracks=tracks)
        files = PseudoLabelFiles(log, [2], folder, options, evaluation_rows=[9], threshold=0.4)
        record = files.write(blind_at_times)
        assert record["options"]["tracks"] is tracks
        labels[tracks] = np.fromfile(folder / "token2_pseudo.bin", dtype=np.uint8)
    still = standing(log, 2).numpy()
    assert not (labels[False][still] == WALL).any()
    assert (labels[True][still] == WALL).mean() > 0.9
    assert np.array_equal(labels[True][~still], labels[False][~still])


def test_a_log_without_boxes_is_named(log, tmp_path):
    log.boxes = lambda row: None
    message = "frame token2 has no boxes, and voting with tracks needs them; set tracks=False, or prepare"
    with pytest.raises(InputError, match=message):
        evaluate_voting(log, [2], blind_at_times, {"tracked": TRACKED}, labelled_rows=[])
    with pytest.raises(InputError, match=message):
        PseudoLabelFiles(log, [2], tmp_path, TRACKED, evaluation_rows=[]).write(blind_at_times)
    assert list(tmp_path.iterdir()) == []
    evaluate_voting(log, [2], blind_at_times, {"guarded": GUARDED}, labelled_rows=[])
