"""SynLiDAR: thirteen simulated sequences in KITTI's form, without poses, times and images."""

from __future__ import annotations

from functools import partial

from .kitti_family import Layout, sequences

scans = partial(sequences, Layout(folders={"": "", "sequences": ""}, motion=False))
