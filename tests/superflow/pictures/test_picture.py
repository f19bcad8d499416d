"""Pictures: what is drawn where, and that no display is wanted."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from superflow.errors import InputError
from superflow.pictures.coloring import (
    IGNORED_COLOR,
    FeatureColors,
    class_colors,
    map_colors,
    readable,
    similarity,
)
from superflow.pictures.picture import (
    GROUND,
    Key,
    birds_eye,
    class_key,
    draw_points,
    draw_superpixels,
    sheet,
    similarity_key,
    write_png,
)

RED, GREEN = np.array([[255, 0, 0]], np.uint8), np.array([[0, 255, 0]], np.uint8)


def center_of(image, color) -> tuple[float, float]:
    """Column and row of the middle of the pixels nearly of that colour."""
    near = np.abs(image.astype(int) - color).sum(axis=2) < 60
    assert near.any(), "nothing of this colour is in the picture"
    rows, columns = np.nonzero(near)
    return float(columns.mean()), float(rows.mean())


def test_birds_eye_has_forward_up_and_left_left():
    points = np.array([[20.0, 0, 0], [0, 20.0, 0]], dtype=np.float32)
    image = birds_eye(points, np.concatenate([RED, GREEN]), title="t", extent_m=40, height_px=640)
    assert image.dtype == np.uint8
    assert image.shape == (640, 600, 3)
    ahead, left = center_of(image, RED[0]), center_of(image, GREEN[0])
    # 40 pixels of title, then 600 pixels for 80 m
    assert ahead == pytest.approx((300, 40 + 150), abs=2)
    assert left == pytest.approx((150, 40 + 300), abs=2), "equal scale in both directions"


def test_high_points_cover_low_ones():
    points = np.array([[10.0, 0, 3.0], [10.0, 0, 0.0]], dtype=np.float32)
    image = birds_eye(points, np.concatenate([RED, GREEN]), title="t", extent_m=20, height_px=440)
    assert (np.abs(image.astype(int) - RED[0]).sum(axis=2) < 60).any()
    assert not (np.abs(image.astype(int) - GREEN[0]).sum(axis=2) < 60).any()


@pytest.mark.parametrize("count", [0, 1])
def test_empty_clouds_and_keys_are_drawn(count):
    points = np.zeros((count, 4), dtype=np.float32)
    colors = np.zeros((count, 3), dtype=np.uint8)
    plain = birds_eye(points, colors, title="a title with $signs_", height_px=440)
    keyed = birds_eye(points, colors, title="t", key=Key((("car", (0, 0, 255)),)), height_px=440)
    barred = birds_eye(points, colors, title="t", key=similarity_key(), height_px=440)
    assert plain.shape[1] == 400
    assert keyed.shape[1] > plain.shape[1]
    assert barred.shape[1] > plain.shape[1]
    assert tuple(plain[-1, 0]) == tuple(int(GROUND[i : i + 2], 16) for i in (1, 3, 5))


def test_near_points_cover_far_ones_on_images():
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels = np.array([[30.0, 20.0], [30.0, 20.0]])
    for depth, want in (([5.0, 9.0], RED[0]), ([9.0, 5.0], GREEN[0])):
        drawn = draw_points(image, pixels, np.concatenate([RED, GREEN]), np.array(depth))
        assert drawn[20, 30].tolist() == want.tolist(), "u is the column, v the row"
    assert not image.any(), "the image itself stays as it was"


def test_the_picked_point_is_circled():
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels = np.array([[40.0, 30.0]])
    plain = draw_points(image, pixels, RED, np.ones(1))
    marked = draw_points(image, pixels, RED, np.ones(1), picked=0)
    assert (marked != plain).any()
    assert marked[30, 40].tolist() == [255, 0, 0]


def test_superpixels_have_tints_borders_and_darkness():
    image = np.full((20, 30, 3), 200, dtype=np.uint8)
    ids = np.zeros((20, 30), dtype=np.uint16)
    ids[:, 10:20] = 300
    ids[:, 20:] = 65535
    drawn = draw_superpixels(image, ids)
    assert drawn[5, 10].tolist() == [250, 250, 250], "border"
    assert drawn[5, 5].tolist() != drawn[5, 15].tolist(), "two regions, two tints"
    assert drawn[5, 25].max() < 60, "ignored"


def test_sheets_scale_and_arrange():
    images = [np.full((100, 200, 3), value, dtype=np.uint8) for value in (50, 100, 150, 200)]
    whole = sheet(images, ["a", "b", "c", "d"], title="t", columns=2, width_px=206)
    assert whole.shape == (40 + 50 + 6 + 50, 206, 3)
    assert whole[40 + 30, 50, 0] == 50
    assert whole[40 + 30, 160, 0] == 100
    assert whole[40 + 86, 160, 0] == 200
    with pytest.raises(ValueError, match="1 names for 2 images"):
        sheet(images[:2], ["a"], title="t")


def test_class_colours_and_legend():
    palette = np.array([[255, 0, 255], [75, 0, 75], [0, 150, 245]], dtype=np.uint8)
    colors = class_colors(np.array([0, 1, 255], dtype=np.uint8), palette)
    assert colors[0].tolist() == [255, 0, 255]
    assert tuple(colors[2]) == IGNORED_COLOR
    assert colors[1] @ np.array([0.299, 0.587, 0.114]) > 60, "dark colours are lifted above the dark ground"
    key = class_key(np.array([2, 2, 0, 255]), ("road", "curb", "parked_car"), palette)
    assert [name for name, _ in key.entries] == ["parked car", "road"]
    assert key.entries[0][1] == tuple(readable(palette)[2])


def test_feature_colours_follow_the_principal_axes():
    random = np.random.default_rng(0)
    features = random.normal(size=(500, 6)) * [0.1, 5.0, 0.1, 2.0, 0.1, 1.0] + 3
    colors = FeatureColors.fit(features)
    assert np.abs(colors.axes).argmax(axis=0).tolist() == [1, 3, 5]
    rgb = colors(features)
    assert rgb.shape == (500, 3)
    assert rgb.min() >= 30
    assert np.corrcoef(rgb[:, 0], features[:, 1])[0, 1] > 0.95
    flipped = FeatureColors.fit(features[::-1].copy())
    assert np.abs(flipped(features).astype(int) - rgb).max() <= 1, "no random signs"
    assert FeatureColors.fit(np.zeros((0, 6)))(np.zeros((0, 6))).shape == (0, 3)
    assert FeatureColors.fit(features[:, :2])(features[:, :2]).shape == (500, 3)


def test_similarity_and_maps():
    features = np.array([[1.0, 0], [2, 0], [0, 3], [0, 0]], dtype=np.float32)
    assert similarity(features, 0).tolist() == [1, 1, 0, 0]
    ramp = map_colors(np.array([-1.0, 0, 0.5, 1, 2]))
    assert ramp[0].tolist() == ramp[1].tolist()
    assert ramp[3].tolist() == ramp[4].tolist()
    assert ramp[2].sum() > ramp[1].sum()


def test_png_round_trip_and_refusal(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "a.png", image)
    assert np.array_equal(cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "a.png")), cv2.COLOR_BGR2RGB), image)
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, NotADirectoryError, FileExistsError)):
        write_png(tmp_path / "file" / "a.png", image)


def test_no_display_and_no_global_state_are_used():
    code = (
        "import sys, numpy as np\n"
        "from superflow.pictures.picture import birds_eye\n"
        "birds_eye(np.zeros((2, 3)), np.zeros((2, 3), np.uint8), title='t', height_px=200)\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'tkinter' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "MPLBACKEND": "TkAgg"})
