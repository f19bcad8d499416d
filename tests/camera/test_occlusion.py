"""What a scan hides from a camera: by a plain twin, by planes and poles whose shadows are known, and by real roads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from superflow.camera.beams import scan_columns
from superflow.camera.occlusion import DepthMap, _draw_half, scan_surface
from superflow.camera.projection import Projection, project
from superflow.datasets.records import Lens

SIZE = (120, 200)
INTRINSICS = np.array([[160.0, 0, 99.5], [0, 150.0, 59.5], [0, 0, 1]])
LENS = Lens(INTRINSICS, SIZE)
# lidar x forward, y left, z up -> camera x right, y down, z forward; the camera sits 0.6 m ahead and 0.4 m lower
LIDAR_TO_CAMERA = np.array([[0, -1.0, 0, 0.1], [0, 0, -1.0, -0.4], [1.0, 0, 0, -0.6], [0, 0, 0, 1]])
BEAMS_DEG = np.linspace(-25, 10, 36)


def directions(beams_deg=BEAMS_DEG, columns: int = 720) -> np.ndarray:
    """(B * C, 3) unit directions of a turn, beam by beam."""
    elevation, azimuth = np.meshgrid(np.radians(beams_deg), np.arange(columns) / columns * 2 * np.pi)
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1).reshape(
        -1, 3
    )


def cast(rays: np.ndarray, *, boards=(), ground_m: float | None = 1.8) -> np.ndarray:
    """Where rays from the LiDAR end: on upright boards (x, y from, y to, z from, z to), or on the ground."""
    with np.errstate(divide="ignore"):
        range_m = np.where((rays[:, 2] < 0) & (ground_m is not None), -(ground_m or 0) / rays[:, 2], np.inf)
    for x, *across in boards:
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x / rays[:, 0]
            _, y, z = (rays * at[:, None]).T
            met = (at > 0) & (across[0] <= y) & (y <= across[1]) & (across[2] <= z) & (z <= across[3])
        range_m = np.where(met, np.minimum(range_m, at), range_m)
    there = range_m < 100
    return rays[there] * range_m[there, None]


def hidden(
    scan: np.ndarray,
    points: np.ndarray,
    *,
    to_camera=LIDAR_TO_CAMERA,
    intrinsics=INTRINSICS,
    size=SIZE,
    bending=(),
):
    """The points on the image, and which of them the scan hides."""
    lens = Lens(intrinsics, size, *bending)
    seen = project(points, to_camera, lens)
    return points[seen.rows], scan_surface(scan).hides(seen, to_camera, lens)


def twin(scan: np.ndarray, seen: Projection) -> np.ndarray:
    """The rule in loops over returns, their neighbours and the cells that they cover."""
    sorted_scan = scan_columns(scan)
    elevation, gap_of = sorted_scan.elevation, sorted_scan.beam_gap
    returns = [np.array(point) for point in sorted_scan.points.astype(np.float32).astype(float)]
    exact = list(sorted_scan.points)
    cell = np.array([INTRINSICS[0, 0], INTRINSICS[1, 1]]) * sorted_scan.column_gap / 1.5
    nearest: dict[tuple[int, ...], float] = {}

    def on_map(point):
        x, y, depth = INTRINSICS @ (LIDAR_TO_CAMERA @ [*point, 1.0])[:3]
        return (np.array([x, y]) / depth + 0.5) / cell, depth

    for n, point in enumerate(returns):
        mine = [m for m in range(len(returns)) if sorted_scan.column[m] == sorted_scan.column[n]]
        for step in (-1, 1):
            beyond = [m for m in mine if step * (elevation[m] - elevation[n]) >= 0.3 * gap_of[n]]
            other = min(beyond, key=lambda m: abs(elevation[m] - elevation[n]), default=None)
            usual, gap, ratio = gap_of[n], gap_of[n], math.inf
            if other is not None:
                usual = gap_of[min(n, other)]
                gap = abs(elevation[other] - elevation[n])
                ratio = np.linalg.norm(exact[other]) / np.linalg.norm(exact[n])
            if gap < 2.5 * usual and 1 / 1.5 < ratio < 1.5:
                out = (math.hypot(*exact[n][:2]) + math.hypot(*exact[other][:2])) / 2
                azimuth = math.atan2(exact[n][1], exact[n][0])
                height = (exact[n][2] + exact[other][2]) / 2
                end = np.array([out * math.cos(azimuth), out * math.sin(azimuth), height])
            else:
                turned = elevation[n] + step * min(gap, usual) / 2
                azimuth = math.atan2(exact[n][1], exact[n][0])
                flat = math.cos(turned)
                end = np.linalg.norm(exact[n]) * np.array(
                    [flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(turned)]
                )
            end = end.astype(np.float32).astype(float)
            (start_at, start), (end_at, stop) = on_map(point), on_map(end)
            if start < 1 or stop < 1:
                continue
            # half a column to the left, as the image moves with it; nearer parts of the piece look wider
            left = 0.5 * sorted_scan.column_gap * np.array([-point[1], point[0], 0])
            x, y, z = INTRINSICS @ LIDAR_TO_CAMERA[:3, :3] @ left
            side = (np.array([x, y]) + 0.5 * z) / cell - z * start_at
            along = max(1, math.ceil(np.abs(end_at - start_at).max()))
            for i in range(along):
                share = (i + 0.5) / along
                near = (1 - share) / start + share / stop
                across = math.ceil(2 * np.abs(side * near).max())
                for j in range(across):
                    at = start_at + share * (end_at - start_at) + ((2 * j + 1) / across - 1) * side * near
                    key = tuple(np.floor(at).astype(int))
                    nearest[key] = min(nearest.get(key, np.inf), 1 / near)
    found = []
    for pixel, depth in zip(seen.pixels.astype(float), seen.depth):
        key = tuple(np.floor((pixel + 0.5) / cell).astype(int))
        found.append(depth > nearest.get(key, np.inf) * 1.1 + 0.2)
    return np.array(found)


def test_the_map_holds_the_nearest_of_all_that_covers_a_cell_bit_for_bit():
    generator = np.random.default_rng(5)
    depth = np.full((12, 20), np.inf, np.float32)
    nearest = np.full(depth.shape, np.inf)
    many = set()
    for _ in range(200):
        u0, u1 = generator.uniform(-3, 23, 2)
        v0, v1 = generator.uniform(-3, 15, 2)
        near0, near1 = 1 / generator.uniform(1, 50, 2)
        side_u, side_v = generator.normal(0, 30, 2)
        _draw_half(u0, v0, near0, u1, v1, near1, side_u, side_v, depth)
        if 2 * max(abs(side_u), abs(side_v)) * max(near0, near1) >= sum(depth.shape):
            continue  # too wide to be true
        along = max(math.ceil(max(abs(u1 - u0), abs(v1 - v0))), 1)
        for i in range(along):
            share = (i + 0.5) / along
            near = near0 + share * (near1 - near0)
            across = math.ceil(2 * max(abs(side_u * near), abs(side_v * near)))
            many.add(across)
            for j in range(across):
                shift = (2 * j + 1) / across - 1
                u = u0 + share * (u1 - u0) + shift * (side_u * near)
                v = v0 + share * (v1 - v0) + shift * (side_v * near)
                if 0 <= u < 20 and 0 <= v < 12 and 1 / near < nearest[int(v), int(u)]:
                    nearest[int(v), int(u)] = 1 / near
    np.testing.assert_array_equal(depth, nearest.astype(np.float32))
    assert many >= {1, 2, 3, 4, 5}
    assert 100 < np.isfinite(depth).sum() <= 240


@pytest.mark.parametrize("seed", range(4))
def test_matches_loops_over_returns_and_cells(seed):
    generator = np.random.default_rng(seed)
    rays = directions(np.linspace(-12, 6, 10), 300) + generator.normal(0, 3e-3, (3000, 3))
    rays = rays[(rays[:, 0] > 0.95) & (generator.random(3000) < 0.8)]
    scan = (rays * generator.choice([4, 5, 6, 9, 15], (len(rays), 1))).astype(np.float32)
    points = generator.uniform((2, -8, -1.5), (40, 8, 4), (800, 3)).astype(np.float32)
    seen = project(points, LIDAR_TO_CAMERA, LENS)
    got = scan_surface(scan).hides(seen, LIDAR_TO_CAMERA, LENS)
    np.testing.assert_array_equal(got, twin(scan, seen))
    assert len(scan) > 150
    assert 0.1 < got.mean() < 0.9
    shuffled = scan_surface(generator.permutation(scan))
    np.testing.assert_array_equal(got, shuffled.hides(seen, LIDAR_TO_CAMERA, LENS))


def test_the_map_is_looked_up_as_by_whole_columns():
    generator = np.random.default_rng(1)
    depth = generator.uniform(2, 30, (37, 41)).astype(np.float32)
    depth[generator.random(depth.shape) < 0.2] = np.inf
    cell_px = np.array([4.9, 3.3])
    pixels = generator.uniform(1e-3, (199, 119), (5000, 2)).astype(np.float32)
    seen = Projection(np.arange(5000), pixels, generator.uniform(1, 40, 5000).astype(np.float32))
    columns, rows = ((pixels + np.float32(0.5)) / cell_px).astype(np.int64).T
    hidden = seen.depth > depth[rows, columns] * 1.1 + 0.2
    np.testing.assert_array_equal(DepthMap(depth, cell_px).hides(seen), hidden, strict=True)
    assert 0.2 < hidden.mean() < 0.8


BOARD = (8.0, -2.0, 2.0, -1.8, 0.2)
WALL = (20.0, -15.0, 15.0, -1.8, 6.0)


@pytest.mark.parametrize(
    "bending",
    [(), ("radial_tangential", (-0.3, 0.08, 1e-3, -2e-3, 0.01)), ("fisheye", (0.02, -0.01, 1e-3, 0.0))],
)
def test_mistake_13_hidden_points_make_no_pairs(bending):
    """The LiDAR sees the wall over the board; for the lower camera the board stands before it."""
    scan = cast(directions(), boards=[BOARD, WALL])
    points, gone = hidden(scan, scan, bending=bending)
    u, v, depth = (points @ LIDAR_TO_CAMERA[:3, :3].T + LIDAR_TO_CAMERA[:3, 3]).T
    wall, board = points[:, 0] > 19.9, np.abs(points[:, 0] - 8) < 0.1
    # y and z, in the LiDAR's frame, where the line of sight of the camera passes the board
    side, top = 0.1 - u * 7.4 / depth, -0.4 - v * 7.4 / depth
    behind = wall & (np.abs(side) < 1.95) & (top < 0.15)
    clear = board | (depth < 7) | (np.abs(side) > 2.1) | (top > 0.35)
    assert behind.sum() > 60
    assert clear.sum() > 500
    assert gone[behind].all()
    # a bent image shows the foot of the wall further to the side, of which a wider pinhole loses these points, too
    assert gone[clear].sum() <= (3 if bending else 0)


def square(scale: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Intrinsics and size of an image that is ``scale`` times 200 x 200 pixels and shows the same."""
    intrinsics = np.diag([150 * scale, 150 * scale, 1.0])
    intrinsics[:2, 2] = 100 * scale - 0.5
    return intrinsics, (round(200 * scale), round(200 * scale))


@pytest.mark.parametrize("tilt_deg", [0, 90, 33])
@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
def test_size_of_the_image_and_tilt_of_the_camera_do_not_matter(scale, tilt_deg):
    scan = cast(directions(), boards=[BOARD, WALL])
    looked_at = scan[(scan[:, 0] > 2) & (np.hypot(scan[:, 1], scan[:, 2]) < 0.35 * scan[:, 0])]
    turn = np.eye(4)
    cos, sin = math.cos(math.radians(tilt_deg)), math.sin(math.radians(tilt_deg))
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    found = []
    for to_camera, (intrinsics, size) in (
        (LIDAR_TO_CAMERA, square(1.0)),
        (turn @ LIDAR_TO_CAMERA, square(scale)),
    ):
        kept, gone = hidden(scan, looked_at, to_camera=to_camera, intrinsics=intrinsics, size=size)
        assert len(kept) == len(looked_at) > 1000
        found.append(gone)
    assert 0.03 < found[0].mean() < 0.3
    assert (found[0] != found[1]).mean() < (0.02 if tilt_deg == 33 else 0.005)


@pytest.mark.parametrize(("beams", "columns"), [(16, 900), (32, 1085), (64, 1800), (128, 1024)])
@pytest.mark.parametrize(("below_m", "clear_m"), [(0.0, 100), (0.5, 100), (1.2, 25)])
def test_the_road_does_not_hide_itself(beams, columns, below_m, clear_m):
    """Beams meet the far road so far apart that it might be steps, which a camera near the ground cannot see over."""
    rays = directions(np.linspace(-25, 10, beams), columns)
    scan = cast(rays[np.random.default_rng(0).random(len(rays)) < 0.98])
    to_camera = LIDAR_TO_CAMERA.copy()
    to_camera[1, 3] = -below_m
    points, gone = hidden(scan, scan, to_camera=to_camera)
    near = np.hypot(points[:, 0], points[:, 1]) < clear_m
    assert near.sum() > 500
    assert gone[near].mean() < 0.01
    assert gone.mean() < 0.2


def test_a_thin_pole_hides_what_is_behind_it_alone():
    pole = (6.0, -0.06, 0.06, -1.8, 3.0)
    scan = cast(directions(columns=1440), boards=[pole, WALL])
    points, gone = hidden(scan, scan)
    wall = points[:, 0] > 19.9
    # seen from the camera the pole covers -0.1 -+ 0.06 m at 5.4 m, which is here on the wall:
    across = (points[:, 1] - 0.1) / (20 - 0.6) * 5.4 + 0.1
    assert gone[wall & (np.abs(across) < 0.04)].all()
    assert not gone[wall & (np.abs(across) > 0.16) & (points[:, 2] > -1)].any()
    assert not gone[np.abs(points[:, 0] - 6) < 0.1].any()


def test_what_is_no_return_hides_nothing_and_empty_scans_hide_nothing():
    scan = cast(directions(), boards=[BOARD, WALL]).astype(np.float32)
    rubbish = np.array([[0, 0, 0], [np.nan, 1, 1], [np.inf, 0, 0], [0, 0, -0.4]], dtype=np.float32)
    with np.errstate(all="raise"):
        with_it, without = hidden(np.concatenate([rubbish, scan]), scan)[1], hidden(scan, scan)[1]
    np.testing.assert_array_equal(with_it, without)
    for few in (scan[:0], scan[:1], rubbish):
        assert hidden(few, scan[1:])[1].sum() == 0
    assert hidden(scan, scan[:0])[1].shape == (0,)


@pytest.mark.parametrize("far_m", [1e3, 1e6, 1e12, 3e38])
def test_points_that_are_far_out_do_no_harm(far_m):
    scan = cast(directions(), boards=[BOARD, WALL]).astype(np.float32)
    rays = np.random.default_rng(0).normal(size=(200, 3))
    rays[0] = 2 / far_m, 1, 0  # beside the camera, just before it
    far = (rays / np.linalg.norm(rays, axis=1, keepdims=True) * far_m).astype(np.float32)
    with_them, without = hidden(np.concatenate([scan, far]), scan)[1], hidden(scan, scan)[1]
    assert (with_them != without).mean() < 0.01


def test_a_wide_camera_gets_no_map_of_many_times_its_image():
    wide = np.array([[1e-3, 0, 99.5], [0, 1e-3, 59.5], [0, 0, 1]])
    scan = cast(directions(), boards=[WALL])
    assert len(hidden(scan, scan, intrinsics=wide)[1]) > 1000


def test_slanted_road_is_not_hidden_by_itself(pandaset):
    frame = pandaset.frame(0)
    front = next(camera for camera in frame.cameras if camera.channel == "CAM_FRONT")
    view = (frame.lidar_to_camera(front), front.lens)
    seen = project(frame.points, *view)
    visible = ~scan_surface(frame.points).hides(seen, *view)
    road = frame.labels[seen.rows] == 24  # flat.driveable_surface
    assert visible[road].mean() > 0.97
    assert 0.9 < visible.mean() < 0.99


def test_each_lidars_rays_hide_from_where_they_began():
    """Two LiDARs, one of them tilted, see the board and the wall from their own places."""
    place, tilt = np.array([0.5, 3.0, 0.4]), math.radians(15)
    to_cloud = np.eye(4)
    to_cloud[:3, :3] = [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    to_cloud[:3, 3] = place
    first = cast(directions(), boards=[BOARD, WALL])
    boards = [np.array(board) - place[[0, 1, 1, 2, 2]] for board in (BOARD, WALL)]
    second = cast(directions() @ to_cloud[:3, :3].T, boards=boards, ground_m=2.2) + place
    scan = np.concatenate([first, second])
    by_lidar = [(np.arange(len(first)), np.eye(4)), (np.arange(len(first), len(scan)), to_cloud)]
    seen = project(scan, LIDAR_TO_CAMERA, LENS)
    points = scan[seen.rows]
    gone = scan_surface(scan, by_lidar).hides(seen, LIDAR_TO_CAMERA, LENS)
    u, v, depth = (points @ LIDAR_TO_CAMERA[:3, :3].T + LIDAR_TO_CAMERA[:3, 3]).T
    side, top = 0.1 - u * 7.4 / depth, -0.4 - v * 7.4 / depth
    behind = (points[:, 0] > 19.9) & (np.abs(side) < 1.95) & (top < 0.15)
    clear = (np.abs(points[:, 0] - 8) < 0.1) | (depth < 7) | (np.abs(side) > 2.1) | (top > 0.35)
    assert behind.sum() > 120
    assert gone[behind].all()
    assert gone[clear].mean() < 0.005
    as_one = scan_surface(scan).hides(seen, LIDAR_TO_CAMERA, LENS)
    assert as_one[clear].mean() > 2 * gone[clear].mean() or not as_one[behind].all()
    alone = scan_surface(first).hides(seen, LIDAR_TO_CAMERA, LENS)
    only_first = scan_surface(scan, by_lidar[:1]).hides(seen, LIDAR_TO_CAMERA, LENS)
    np.testing.assert_array_equal(alone, only_first)
