"""SemanticSTF: single scans in bad weather, in the folders train, val and test, each of which is a scene here.

Its points have five columns; read as four, a file gives more points than it holds. val/val.txt names the weather of
each scan: the splits val_dense_fog, val_light_fog, val_rain and val_snow.
"""

from __future__ import annotations

from functools import partial

from .kitti_family import Layout, sequences

LAYOUT = Layout(folders={"": ""}, motion=False, ordered=False, lists="{}.txt")
scans = partial(sequences, LAYOUT)
