"""The gaps between beams and columns, found again on scans of known sensors."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.camera.beams import _distances, _from_below, _in_sectors, _interpolate, scan_columns

EVEN = np.linspace(-30.67, 10.67, 32)  # as the HDL-32E
UNEVEN = np.r_[np.arange(-25, -7, 3.0), np.arange(-6, 2, 0.25), np.arange(3, 15, 3.0)]


def scan(beams_deg, columns: int, *, staggered: bool = False, kept: float = 1.0, seed: int = 0) -> np.ndarray:
    """(N, 3) shuffled returns of one turn in a room of uneven walls; staggered beams fire at azimuths of their own."""
    generator = np.random.default_rng(seed)
    beams_deg = np.asarray(beams_deg, dtype=float)
    phase = generator.uniform(0, 1, len(beams_deg)) if staggered else np.zeros(len(beams_deg))
    turn = (np.arange(columns)[:, None] + 0.3 + phase) / columns * 2 * np.pi
    elevation = np.broadcast_to(np.radians(beams_deg), turn.shape)
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.sin(elevation)], axis=-1).reshape(-1, 3)
    points = rays * (12 + 5 * np.sin(3 * turn) + generator.normal(0, 0.02, turn.shape)).reshape(-1, 1)
    return generator.permutation(points)[: int(kept * len(points))].astype(np.float32)


@pytest.mark.parametrize("staggered", [False, True])
@pytest.mark.parametrize(
    ("beams_deg", "columns"), [(EVEN, 1085), (EVEN, 360), (UNEVEN, 1800), (UNEVEN, 2048)]
)
def test_gaps_are_found_whatever_the_sensor_and_the_order_of_its_points(beams_deg, columns, staggered):
    found = scan_columns(scan(beams_deg, columns, staggered=staggered, kept=0.95))
    assert np.degrees(found.column_gap) == pytest.approx(360 / columns, rel=0.06)
    at = np.degrees(found.elevation)
    inner = (at > beams_deg[1]) & (at < beams_deg[-2])
    beam = np.abs(at[inner, None] - beams_deg).argmin(axis=1)
    true = np.diff(beams_deg)[beam]
    assert (np.abs(np.degrees(found.beam_gap[inner]) / true - 1) < 0.15).mean() > 0.9


def test_returns_are_sorted_by_column_and_elevation_and_rows_without_one_are_left_out():
    points = scan(EVEN, 360)
    rubbish = np.array([[0, 0, 0], [np.nan, 1, 0], [1, np.inf, 0]], dtype=np.float32)
    found = scan_columns(np.concatenate([rubbish, points]))
    assert sorted(map(tuple, found.points)) == sorted(map(tuple, points.astype(np.float64)))
    step = np.diff(found.column)
    assert (step >= 0).all()
    assert (np.diff(found.elevation)[step == 0] >= 0).all()
    np.testing.assert_allclose(found.range_m, np.linalg.norm(found.points, axis=1))


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_returns_that_are_missing_do_not_widen_the_columns(kept):
    found = scan_columns(scan(EVEN, 1085, kept=kept))
    assert np.degrees(found.column_gap) == pytest.approx(360 / 1085, rel=0.02)


def test_a_single_beam_and_a_single_return_are_fine():
    for points in (scan([0.0], 360), scan([0.0], 360)[:1], np.zeros((0, 4), np.float32)):
        found = scan_columns(points)
        assert len(found.beam_gap) == len(points)
        assert np.isfinite(found.beam_gap).all()
        assert found.column_gap > 0


def test_returns_of_one_direction_stay_in_their_order_in_short_and_long_columns():
    generator = np.random.default_rng(0)
    for columns in (200, 3):  # some 20 returns a column, and more than are sorted one by one
        column = generator.integers(1, columns, 4000)
        elevation = generator.integers(-6, 7, 4000) / 10.0
        np.testing.assert_array_equal(_from_below(column, elevation), np.lexsort((elevation, column)))
    assert not len(_from_below(np.zeros(0, np.int64), np.zeros(0)))


def test_compiled_passes_have_the_bits_of_plain_ones():
    generator = np.random.default_rng(0)
    xyz = generator.normal(0, 30, (5000, 3))
    xyz[:3] = [[np.nan, 1, 2], [np.inf, 0, 1], [0, 0, 0]]
    flat, range_m = _distances(xyz)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(flat, np.sqrt(xyz[:, 0] ** 2 + xyz[:, 1] ** 2))
        np.testing.assert_array_equal(range_m, np.sqrt(xyz[:, 0] ** 2 + xyz[:, 1] ** 2 + xyz[:, 2] ** 2))
    step, width = 2 * np.pi / 8, np.radians(4.0)
    borders = np.arange(-4, 5)[:, None] * step + [-width, -1e-12, 0, 1e-12, width, width - 1e-12]
    azimuth = np.r_[generator.uniform(-np.pi, np.pi, 20_000), borders.ravel(), -np.pi, np.pi]
    sector, into = np.divmod(azimuth + np.pi, step)
    rows, *found = _in_sectors(azimuth, step, float(width))
    np.testing.assert_array_equal(rows, np.flatnonzero(into < width))
    np.testing.assert_array_equal(found, [sector[rows], into[rows]])


@pytest.mark.parametrize("degrees", [[-31, -30, -12, -3, -2, -1, 0, 4, 9], [-1, 0], [5]])
def test_gaps_between_degrees_have_the_bits_of_numpys(degrees):
    generator = np.random.default_rng(0)
    knots, values = np.array(degrees) + 0.5, generator.uniform(0.1, 3, len(degrees))
    near = np.radians(np.arange(-90, 91) / 2)  # at the knots and halfway, and the next numbers to them
    borders = [near, np.nextafter(near, -4), np.nextafter(near, 4)]
    elevation = np.concatenate([generator.uniform(-np.pi / 2, np.pi / 2, 20_000), *borders])
    found = np.empty(len(elevation))
    _interpolate(elevation, knots, values, np.diff(values) / np.diff(knots), found)
    np.testing.assert_array_equal(found, np.radians(np.interp(np.degrees(elevation), knots, values)))
