"""Driving scenes as something that can be asked.

The way of a question, one file each:

    scene.py            what is known of one scan: objects, motion, pose, points; frame ego, x forward, y left
    scene_log.py        scenes of a prepared log, from its boxes or from its panoptic instances
    scene_clusters.py   scenes of predicted classes, objects are clusters of points: for logs without labels
    scene_split.py      which scenes train and which are held out, as lists of tokens with a hash
    vlm/                a language model that sees the scan with a backbone of this package

Only `tools/` imports this room. What it needs beyond the package is the extra `agents`.
"""
