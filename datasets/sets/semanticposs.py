"""SemanticPOSS: six sequences of a campus in KITTI's form, without images; its numbers may have gaps."""

from __future__ import annotations

from functools import partial

from .kitti_family import MOTION, Layout, sequences

SOURCES = MOTION
scans = partial(sequences, Layout())
