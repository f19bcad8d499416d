"""Every model of corruption against a plain twin of its formula that goes point by point."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from superflow.datasets.card import load_card
from superflow.datasets.cloud import Cloud
from superflow.datasets.corruptions import fog as fog_model
from superflow.datasets.corruptions.domain import (
    CROSSTALK_POINT,
    FOG_RETURN,
    LEVELS,
    NUSCENES,
    SEMANTICKITTI,
    SNOW_RETURN,
    Domain,
)
from superflow.datasets.corruptions.faults import (
    beam_missing,
    cross_sensor,
    crosstalk,
    incomplete_echo,
    motion_blur,
)
from superflow.datasets.corruptions.fog import ATTENUATIONS, fog, soft_peaks
from superflow.datasets.corruptions.ground import noise_line
from superflow.datasets.corruptions.models import CORRUPTIONS, Variant, all_variants, corrupt
from superflow.datasets.corruptions.snow import snow
from superflow.datasets.corruptions.wet_ground import wet_ground
from superflow.errors import InputError

CAR, ROAD, TREE = 3, 10, 15  # train ids of nuScenes
DOMAIN = Domain.of(load_card("nuscenes"))
CORRECTED = replace(DOMAIN, is_published=False)
FEW_BEAMS = replace(DOMAIN, beams=3)  # patterns of flakes take their time
LIGHT_M_S = 299_792_458.0
EVERY = [(name, level) for name in CORRUPTIONS for level in range(3)]


def street(seed: int = 0, count: int = 4000) -> tuple[Cloud, np.ndarray]:
    """A scan of level ground 1.8 m below the sensor, and of cars and trees above it."""
    rng = np.random.default_rng(seed)
    azimuth, distance = rng.uniform(-np.pi, np.pi, count), rng.uniform(3, 60, count)
    labels = rng.choice([CAR, ROAD, TREE], count, p=[0.2, 0.6, 0.2]).astype(np.uint8)
    height = np.where(labels == ROAD, -1.8, rng.uniform(-1.5, 2, count))
    xyz = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height], 1).astype(np.float32)
    intensity = np.round(rng.uniform(1, 60, count)).astype(np.float32) / 255
    ring = rng.integers(0, 32, count).astype(np.float32)
    return Cloud(xyz, intensity, {"ring": ring}), labels


def run(model, level, seed=0, domain=DOMAIN, scan=None):
    cloud, labels = street() if scan is None else scan
    return model(cloud, labels, level, np.random.default_rng(seed), domain)


# ---- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "level"), EVERY)
@pytest.mark.parametrize("is_published", [True, False])
def test_a_model_is_pure_and_says_which_points_are_whose(name, level, is_published):
    cloud, labels = street()
    before = cloud.table.copy()
    domain = replace(FEW_BEAMS if name == "snow" else DOMAIN, is_published=is_published)
    one, two = (run(CORRUPTIONS[name], level, 7, domain, (cloud, labels)) for _ in range(2))
    np.testing.assert_array_equal(cloud.table, before)
    np.testing.assert_array_equal(one.cloud.table, two.cloud.table)
    assert len(one.cloud) == len(one.rows) == len(one.noise) == len(one.labels(labels))
    assert (np.diff(one.rows) > 0).all()
    np.testing.assert_array_equal(one.cloud.extra["ring"], cloud.extra["ring"][one.rows])
    np.testing.assert_array_equal(one.labels(labels)[one.noise == 0], labels[one.rows][one.noise == 0])
    assert (one.labels(labels)[one.noise > 0] == 255).all()
    assert np.isfinite(one.cloud.table).all()
    if len(one.cloud) < len(cloud):
        np.testing.assert_array_equal(one.cloud.file_row, one.rows)
        assert one.cloud.rows_of_file == len(cloud)
    if not is_published:
        assert one.cloud.intensity.min() >= 0
        assert one.cloud.intensity.max() <= 1


def test_chance_hangs_on_scan_variant_and_seed_alone():
    cloud, labels = street()
    first = corrupt(cloud, labels, Variant.parse("crosstalk/light"), DOMAIN, token="a")
    again = corrupt(cloud, labels, Variant.parse("crosstalk/light"), DOMAIN, token="a")
    np.testing.assert_array_equal(first.cloud.xyz, again.cloud.xyz)
    for variant, token, seed in (("crosstalk/light", "b", 1205), ("crosstalk/light", "a", 1)):
        other = corrupt(cloud, labels, Variant.parse(variant), DOMAIN, token=token, seed=seed)
        assert (other.noise != first.noise).any()
    empty = cloud.at(np.zeros(len(cloud), bool))
    for variant in all_variants():  # before any flake is made
        assert len(corrupt(empty, labels[:0], variant, DOMAIN, token="a").cloud) == 0


def test_variants_are_read_and_written_alike():
    assert len({str(variant) for variant in all_variants()}) == 24
    for variant in [*all_variants(), *all_variants(is_published=False)]:
        assert Variant.parse(str(variant)) == variant
    assert Variant.parse("fog/heavy/corrected") == Variant("fog", 2, is_published=False)
    for text, said in (("fgo/light", "no corruption 'fgo'.*fog"), ("fog", "LEVEL"), ("fog/x", "light, mod")):
        with pytest.raises(InputError, match=said):
            Variant.parse(text)
    with pytest.raises(InputError, match="variant 'fog/light/no'"):
        Variant.parse("fog/light/no")


def test_what_a_dataset_lacks_is_said():
    cloud, labels = street()
    none = replace(DOMAIN, ground=(), vehicles=())
    bare = replace(cloud, intensity=None)
    for scan, domain, model, said in (
        ((cloud, None), DOMAIN, wet_ground, "wet_ground: its model needs labels"),
        ((cloud, None), DOMAIN, incomplete_echo, "incomplete_echo: its model needs labels"),
        ((cloud, labels), none, wet_ground, "needs ground, and nuscenes has no such class"),
        ((cloud, labels), none, incomplete_echo, "needs vehicles, and nuscenes has no such class"),
        ((bare, labels), DOMAIN, wet_ground, "wet_ground: its model needs intensities"),
        ((bare, labels), DOMAIN, snow, "snow: its model needs intensities"),
    ):
        with pytest.raises(InputError, match=said):
            run(model, 0, domain=domain, scan=scan)
    for model in (fog, motion_blur, crosstalk, beam_missing, cross_sensor):
        assert run(model, 2, scan=(bare, labels)).cloud.intensity is None


@pytest.mark.parametrize("name", ["nuscenes", "nuscenes_c", "semantickitti", "waymo", "pandaset", "daps3d"])
def test_cards_say_what_is_ground_and_what_a_vehicle(name):
    card = load_card(name)
    domain = Domain.of(card)
    assert domain.ground
    assert domain.vehicles
    assert not set(domain.ground) & set(domain.vehicles)
    assert domain.beams == card.sensor["beams"]
    if name == "nuscenes":
        ground = [card.classes[i] for i in domain.ground]
        assert ground == ["driveable_surface", "other_flat", "sidewalk"]
        assert [card.classes[i] for i in domain.vehicles] == [
            *("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "trailer", "truck")
        ]
        assert domain.strengths is NUSCENES
    if name == "semantickitti":
        assert domain.strengths is SEMANTICKITTI


def test_beams_are_told_by_elevation_where_no_column_does():
    degrees = np.array([-30.6, -29.3, 0.0, 10.6, 45.0, -80.0])
    xyz = np.stack([np.cos(np.radians(degrees)), np.zeros(6), np.sin(np.radians(degrees))], 1) * 10
    want = [min(max(math.floor((d + 30.67) / (41.34 / 32)), 0), 31) for d in degrees]
    assert DOMAIN.rings(Cloud(xyz.astype(np.float32))).tolist() == want


# ---- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(3))
def test_motion_blur(level):
    cloud, _ = street()
    sigma = (0.20, 0.25, 0.30)[level]
    moved = run(motion_blur, level).cloud.xyz.astype(float) - cloud.xyz
    shift = moved.mean(axis=0)
    want = np.random.default_rng(0).normal(0, sigma, 3)
    np.testing.assert_allclose(shift, want, atol=0.005)
    np.testing.assert_allclose(
        (moved - shift).std(axis=0), [0.1 * sigma, 0.1 * sigma, 0.05 * sigma], rtol=0.05
    )
    for axis in range(3):
        scale = (moved - shift)[:, axis].std()
        assert stats.kstest((moved - shift)[:, axis] / scale, "norm").pvalue > 1e-3
    shifts = [
        run(motion_blur, level, seed).cloud.xyz.mean(axis=0) - cloud.xyz.mean(axis=0) for seed in range(300)
    ]
    np.testing.assert_allclose(np.std(shifts, axis=0), sigma, rtol=0.15)


@pytest.mark.parametrize(("level", "mean"), [(0, 7.0), (1, 12.2), (2, 16.1)])
def test_beam_missing_loses_as_many_beams_as_are_published(level, mean):
    cloud, labels = street(count=1500)
    lost = []
    for seed in range(150):
        found = run(beam_missing, level, seed, scan=(cloud, labels))
        gone = set(cloud.extra["ring"].tolist()) - set(found.cloud.extra["ring"].tolist())
        assert gone <= set(range(2, 29))
        assert len(found.cloud) == sum(ring not in gone for ring in cloud.extra["ring"].tolist())
        lost.append(len(gone))
    assert np.mean(lost) == pytest.approx(mean, abs=0.25)
    found = run(beam_missing, level, domain=CORRECTED)
    assert len(np.unique(found.cloud.extra["ring"])) == 32 - 8 * (level + 1)


def test_beams_of_64_are_missing_in_the_same_pattern():
    cloud, labels = street()
    cloud = replace(cloud, extra={"ring": np.arange(len(cloud), dtype=np.float32) % 64})
    domain = replace(DOMAIN, beams=64)
    for level, count in enumerate((16, 32, 48)):
        gone = set()
        for seed in range(60):
            found = run(beam_missing, level, seed, replace(domain, is_published=False), (cloud, labels))
            missing = set(range(64)) - set(found.cloud.extra["ring"].tolist())
            assert len(missing) == count
            gone |= missing
        assert gone == set(range(4, 59))


@pytest.mark.parametrize(
    ("level", "lost"),
    [
        (0, [1, 5, 9, 13, 17, 21, 25, 29]),
        (1, list(range(1, 32, 2))),
        (2, [math.floor(1 + 1.33 * k) for k in range(24)]),
    ],
)
def test_cross_sensor(level, lost):
    cloud, _ = street()
    assert len(set(lost)) == (8, 16, 24)[level]
    want = [row for row, ring in enumerate(cloud.extra["ring"].tolist()) if ring not in lost][::2]
    assert run(cross_sensor, level).rows.tolist() == want
    ring = np.random.default_rng(0).permutation(6400).astype(np.float32) % 64
    many = (Cloud(np.ones((6400, 3), np.float32), extra={"ring": ring}), None)
    kept = set(
        run(cross_sensor, level, domain=replace(DOMAIN, beams=64), scan=many).cloud.extra["ring"].tolist()
    )
    assert len(kept) == 64 - 16 * (level + 1)


@pytest.mark.parametrize("domain", [DOMAIN, CORRECTED, replace(DOMAIN, strengths=SEMANTICKITTI)])
@pytest.mark.parametrize("level", range(3))
def test_crosstalk(domain, level):
    cloud, _ = street()
    found = run(crosstalk, level, domain=domain)
    hit = found.noise == CROSSTALK_POINT
    share = ((0.03, 0.07, 0.12), (0.006, 0.008, 0.01))[domain.strengths is SEMANTICKITTI][level]
    assert hit.sum() == int(share * len(cloud))
    np.testing.assert_array_equal(found.cloud.table[~hit], cloud.table[~hit])
    moved = [run(crosstalk, level, seed, domain) for seed in range(20)]
    off = np.concatenate([(f.cloud.xyz.astype(float) - cloud.xyz)[f.noise > 0] for f in moved])
    np.testing.assert_allclose(off.std(axis=0), 3, rtol=0.15)
    np.testing.assert_allclose(off.mean(axis=0), 0, atol=0.35)
    brighter = np.concatenate([(f.cloud.intensity - cloud.intensity)[f.noise > 0] for f in moved])
    if domain.is_published:
        full = 1 if domain.strengths is SEMANTICKITTI else 255
        assert brighter.std() * full == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("level", range(3))
def test_incomplete_echo(level):
    cloud, labels = street()
    labels[:10] = 1  # bicycles, too few to lose any
    labels[(labels == 1) & (np.arange(len(labels)) >= 10)] = TREE
    found = run(incomplete_echo, level, scan=(cloud, labels))
    lost = np.bincount(labels, minlength=16) - np.bincount(found.labels(labels), minlength=16)
    want = np.zeros(16, int)
    want[CAR] = int((0.75, 0.85, 0.95)[level] * (labels == CAR).sum())
    assert lost.tolist() == want.tolist()


# ---- fog --------------------------------------------------------------------------------------------------------


def soft_return(distance: float, target: float, attenuation: float) -> float:
    """The integral of the formula, with time as its variable."""
    tau = 20e-9

    def power(time: float) -> float:
        depth = distance - LIGHT_M_S * time / 2
        if depth < 0.9 or depth > target:
            return 0.0
        seen = min((depth - 0.9) / 0.1, 1.0)
        return (
            math.sin(math.pi * time / (2 * tau)) ** 2 * math.exp(-2 * attenuation * depth) / depth**2 * seen
        )

    edges = [2 * (distance - depth) / LIGHT_M_S for depth in (0.9, 1.0, target)]
    inside = sorted(edge for edge in edges if 0 < edge < 2 * tau)
    bounds = [0.0, *inside, 2 * tau]
    return sum(integrate.quad(power, a, b)[0] for a, b in pairwise(bounds))


@pytest.mark.parametrize("attenuation", [0.0, 0.03])
@pytest.mark.parametrize("target", [1.2, 3.0, 4.5, 40.0])
def test_fog_echoes_most_where_the_integral_says(attenuation, target):
    peak_m, peak = soft_peaks(attenuation)
    cell = round(target / 0.1)
    grid = np.arange(0, 0.1 * cell + 7, 0.1) if target < 10 else np.arange(0, 60, 0.1)
    returns = [soft_return(distance, target, attenuation) for distance in grid]
    assert peak[cell] == pytest.approx(max(returns), rel=2e-3)
    assert peak_m[cell] == pytest.approx(grid[int(np.argmax(returns))], abs=0.11)


@pytest.mark.parametrize("domain", [DOMAIN, CORRECTED, replace(DOMAIN, strengths=SEMANTICKITTI)])
@pytest.mark.parametrize("level", range(3))
def test_fog_point_by_point(domain, level):
    cloud, _ = street(count=300)
    cloud.xyz[:40] *= 0.15  # near ones
    for seed in range(3):
        found = run(fog, level, seed, domain, (cloud, None))
        rng = np.random.default_rng(seed)
        alpha = ATTENUATIONS[rng.integers(6)]
        ranges = np.linalg.norm(cloud.xyz.astype(float), axis=1)
        peak_m, peak = soft_peaks(alpha)
        limit = np.full(300, 10.0) if domain.is_published else np.minimum(10.0, ranges / 2)
        drawn = rng.uniform(ranges - limit, ranges + limit)
        for i in range(300):
            bright, away = 255.0 * float(cloud.intensity[i]), float(ranges[i])
            hard = bright * math.exp(-2 * alpha * away)
            if domain.is_published and domain.strengths is NUSCENES:
                hard = float(np.round(hard))
            j = min(round(away / 0.1), 2000)
            soft = bright * away**2 * (0.008, 0.05, 0.2)[level] / (1e-6 / math.pi) * peak[j]
            xyz, value = cloud.xyz[i].astype(float), hard
            if soft > hard:
                xyz, value = xyz * (peak_m[j] / away) * (away / drawn[i]), soft
            assert (found.noise[i] == FOG_RETURN) == (soft > hard)
            value = value if domain.is_published else min(value, 255.0)
            np.testing.assert_allclose(found.cloud.intensity[i], value / 255, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found.cloud.xyz[i], xyz.clip(-200, 200), rtol=1e-4, atol=1e-4)


def test_fog_grows_with_its_level():
    shares = [np.mean([run(fog, level, seed).noise > 0 for seed in range(8)]) for level in range(3)]
    assert shares[0] < shares[1] < shares[2]
    assert fog_model.ATTENUATIONS == (0.0, 0.005, 0.01, 0.02, 0.03, 0.06)


# ---- wet ground -------------------------------------------------------------------------------------------------


def fresnel(angle: float, albedo: float) -> float:
    """Snell and Fresnel in their angles."""
    inside = math.asin(1.0003 / 1.33 * math.sin(angle))
    across = (math.sin(angle - inside) / math.sin(angle + inside)) ** 2
    along = (math.tan(angle - inside) / math.tan(angle + inside)) ** 2
    return max((1 - r) * albedo * (1 - r) / (1 - albedo * r) for r in (across, along))


@pytest.mark.parametrize("domain", [DOMAIN, CORRECTED, replace(DOMAIN, strengths=SEMANTICKITTI)])
@pytest.mark.parametrize("level", range(3))
def test_wet_ground_point_by_point(domain, level):
    cloud, labels = street()
    found = run(wet_ground, level, domain=domain)
    rows = np.flatnonzero(labels == ROAD)
    ranges = np.linalg.norm(cloud.xyz[rows].astype(float), axis=1)
    cosine = 1.8 / ranges
    bright = cloud.intensity[rows].astype(float)
    table = np.stack([ranges, np.ones(len(rows))], 1)
    slope, offset = np.linalg.lstsq(table, bright / cosine, rcond=None)[0]
    low_slope, low_offset = (slope, offset) if domain.is_published else noise_line(ranges, bright / cosine)
    water = min((0.2, 1.0, 1.2)[level] / 1.2, 1)
    noise = 0.3 if domain.strengths is SEMANTICKITTI and level == 0 else (0.2, 0.3, 0.7)[level]
    want = {}
    for k, row in enumerate(rows.tolist()):
        power = 15 * (slope * ranges[k] + offset)
        albedo = bright[k] / cosine[k] / power
        angle = math.acos(cosine[k])
        wet = fresnel(angle, min(max(albedo, 0.05), 1)) / (angle if domain.is_published else 1)
        after = power * cosine[k] * ((1 - water) * albedo + water * wet)
        after = min(max(after, 0), bright[k])
        if after > noise * (low_slope * ranges[k] + low_offset) * cosine[k]:
            want[row] = after
    got = {int(row): value for row, value in zip(found.rows, found.cloud.intensity) if labels[row] == ROAD}
    assert got.keys() == want.keys()
    np.testing.assert_allclose([got[row] for row in want], list(want.values()), rtol=1e-4, atol=1e-6)
    others = labels[found.rows] != ROAD
    assert others.sum() == (labels != ROAD).sum()
    np.testing.assert_array_equal(found.cloud.table[others], cloud.table[labels != ROAD])


def test_little_ground_stays_dry():
    cloud, labels = street(count=1200)
    assert (labels == ROAD).sum() < 1000
    found = run(wet_ground, 2, scan=(cloud, labels))
    np.testing.assert_array_equal(found.cloud.table, cloud.table)


def test_the_noise_of_the_receiver_is_a_line_through_the_weakest_of_every_metre():
    rng = np.random.default_rng(0)
    ranges = rng.uniform(5, 40, 5000)
    floor = 0.02 + 0.003 * ranges
    slope, offset = noise_line(ranges, floor + rng.exponential(0.05, 5000) * (rng.uniform(size=5000) > 0.3))
    assert (slope, offset) == (pytest.approx(0.003, rel=0.05), pytest.approx(0.02, abs=0.003))


# ---- snow: the flakes are in test_flakes.py ---------------------------------------------------------------------


@pytest.mark.parametrize("level", range(3))
def test_snow_loses_and_adds_points(level):
    cloud, _ = street()
    found = run(snow, level, domain=FEW_BEAMS)
    flakes = found.noise == SNOW_RETURN
    assert 0 < flakes.sum() < 0.2 * len(cloud)
    ranges = np.linalg.norm(cloud.xyz[found.rows].astype(float), axis=1)
    after = np.linalg.norm(found.cloud.xyz.astype(float), axis=1)
    assert (after[flakes] < ranges[flakes] - 0.15).all()
    np.testing.assert_array_equal(found.cloud.xyz[~flakes], cloud.xyz[found.rows][~flakes])
    heading = np.sum(found.cloud.xyz * cloud.xyz[found.rows], axis=1)[flakes]
    np.testing.assert_allclose(heading, (ranges * after)[flakes], rtol=1e-4)
    unlabelled = run(snow, level, domain=FEW_BEAMS, scan=(cloud, None))
    assert len(unlabelled.cloud) == len(cloud), "without ground nothing is known of the noise"
    assert LEVELS[level] in ("light", "moderate", "heavy")


def test_what_is_below_the_noise_of_the_ground_is_lost_in_snow():
    cloud, labels = street()
    found = run(snow, 0, domain=FEW_BEAMS)
    ranges = np.linalg.norm(cloud.xyz.astype(float), axis=1)
    ground = labels == ROAD
    bright = 255 * cloud.intensity.astype(float)
    slope, offset = noise_line(ranges[ground], bright[ground] / (1.8 / ranges[ground]))
    lost_below = 0.7 * (slope * ranges[ground] + offset) * 1.8 / ranges[ground]
    table = np.stack([ranges[ground] ** 2, ranges[ground], np.ones(ground.sum())], 1)
    square, linear, constant = np.linalg.lstsq(table, lost_below, rcond=None)[0]
    least = square * ranges**2 + linear * ranges + constant
    unlabelled = run(snow, 0, domain=FEW_BEAMS, scan=(cloud, None))  # the same flakes, nothing lost
    keep = (unlabelled.noise > 0) | (255 * unlabelled.cloud.intensity.astype(float) >= least)
    differing = np.setxor1d(found.rows, np.flatnonzero(keep))
    assert len(differing) <= 2, "but for rounding at the edge"
    assert 50 < len(cloud) - len(found.cloud) < len(cloud)
