"""ScribbleKITTI: SemanticKITTI of which a few points carry a scribbled class; validated on the full labels of 08.

There are no scribbles of 08. A training sequence that lacks its scribbles has no labels here: the full ones, which lie
in the same folders, would make another experiment of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from . import semantickitti
from .kitti_family import MOTION, sequences

LAYOUT = replace(semantickitti.LAYOUT, labels="scribbles", labels_of={"val": "labels"})
SOURCES = MOTION
scans = partial(sequences, LAYOUT)
