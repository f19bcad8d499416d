"""DAPS-3D: DAPS-1, SemanticKITTI's streets scanned anew in a simulation, and DAPS-2, a cleaning robot in a park.

A scene is daps-1_00 or daps-2_38-18_7_72_90.
"""

from __future__ import annotations

from functools import partial

from .kitti_family import Layout, sequences

FOLDERS = {  # as its documentation names them, and as its code does (cfgs/navigation.yml)
    **{"daps-1/data": "daps-1_", "daps-2/data": "daps-2_"},
    **{"daps1/data": "daps-1_", "daps2/data": "daps-2_"},
}
scans = partial(sequences, Layout(folders=FOLDERS, points="clouds", motion=False))
