"""SemanticPOSS: a campus in KITTI's form, without images.

The scans of 00 are numbered from 000000, those of the other sequences from 000001, and the first line of poses.txt is
of the first of them (after OccMamba's reader of the set, semantic_poss_lss_dataset.py).
"""

from __future__ import annotations

from functools import partial

from .kitti_family import MOTION, Layout, sequences

SOURCES = MOTION
scans = partial(sequences, Layout(first=dict.fromkeys(("01", "02", "03", "04", "05"), 1)))
