"""What a teacher is shown of an image, and how much of its file is decoded for that."""

from __future__ import annotations

from typing import Any

import numpy as np

from superflow.camera.crops import resize_image
from superflow.clips.pairing import FramePairs
from superflow.clips.views import TeacherView, TeacherViews
from superflow.datasets.sets.nuscenes import write_index


def test_a_view_of_half_an_image_is_that_of_the_whole(pandaset_root, tmp_path):
    """The log has 396 x 704 pixels: half of them are enough for 64 x 112, and none for 224 x 448."""
    index = write_index(pandaset_root, tmp_path / "prepared", version="v1.0-mini")
    camera = index.cameras(index.rows(["scene-9002[0:1]"]))[0]

    def seen(size: tuple[int, int], **options: Any) -> TeacherView:
        views = TeacherViews(size, flip=0.0, **options)
        return views.view(camera, 0, 0, FramePairs.none(), np.random.default_rng(0))

    for size in ((64, 112), (224, 448)):
        whole, half = seen(size, half=False), seen(size)
        np.testing.assert_array_equal(whole.to_view, half.to_view)
        plain = resize_image(camera.read(), size)
        np.testing.assert_array_equal(whole.image.permute(1, 2, 0).numpy(), plain)
        off = np.abs(half.image.permute(1, 2, 0).numpy().astype(int) - plain)
        assert (0 < off.mean() < 1) if size[0] < 100 else not off.any()
    rough = seen((64, 112), antialias=False).image.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(rough, resize_image(camera.read(), (64, 112), antialias=False))
