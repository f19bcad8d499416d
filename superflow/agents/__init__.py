"""Driving scenes as something that can be asked.

The way of a question, one file each:

    words.py            the words for objects and what they do, whatever a dataset calls them
    scene.py            what is known of one scan: objects, motion, pose, points; frame ego, x forward, y left
    scene_log.py        scenes of a prepared log, from its boxes or from its panoptic instances
    scene_clusters.py   scenes of predicted classes, objects are clusters of points: for logs without labels
    scene_split.py      which scenes train and which are held out, as lists of tokens with a hash
    query.py            what can be asked: things, how they stand to each other, conditions, questions
    query_text.py       a query as a sentence; query_parse.py reads one, with the tokens of query_words.py
    query_answer.py     the answer on a scene: true, false, or that nobody can tell
    find.py             the scans of a log in which a condition is true; find_picture.py draws them
    scene_text.py       a scene as lines of text
    bootcamps/          questions about scenes without end, each with a verifier
    benchmarks/         files of NuScenes-QA and DriveLM, and their figures
    saga/               tests that find wrong programs, and what they are worth
    vlm/                a language model that sees the scan with a backbone of this package
    serving/            that model as two servers, with a chat endpoint and a page

Only `tools/` and `superflow/benchmark/` import this room. What it needs beyond the package is the extra `agents`.
"""
