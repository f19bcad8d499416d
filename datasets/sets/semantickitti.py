"""SemanticKITTI: KITTI's odometry sequences with a class and an instance for each point."""

from __future__ import annotations

from functools import partial

from .kitti_family import MOTION, Layout, sequences

# colour cameras, left and right, and their rows of calib.txt
LAYOUT = Layout(cameras={"image_2": "P2", "image_3": "P3"})
SOURCES = MOTION
scans = partial(sequences, LAYOUT)
