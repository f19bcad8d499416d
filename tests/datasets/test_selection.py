"""Which rows a selection means."""

from __future__ import annotations

import re

import numpy as np
import pytest

from superflow.datasets.selection import select_rows, without
from superflow.errors import InputError

SCENES = ("b", "a", "c")
KEYS = {"b": 5, "a": 3, "c": 1}
SPLITS = {"train": ("a", "b", "elsewhere"), "val": ("c",), "test": ("elsewhere",)}

# every scene: a sweep, then key frames with two sweeps after each
SCAN_SCENE = np.array([i for i, s in enumerate(SCENES) for _ in range(1 + 3 * KEYS[s])], dtype=np.int32)
IS_KEY = np.array([k for s in SCENES for k in [False] + [True, False, False] * KEYS[s]])


def select(selection, **options):
    return select_rows(
        selection, scenes=SCENES, splits=SPLITS, scene_of=SCAN_SCENE, is_key=IS_KEY, **options
    ).tolist()


def keys_of(scene):
    number = SCENES.index(scene)
    return [row for row in range(len(IS_KEY)) if IS_KEY[row] and SCAN_SCENE[row] == number]


@pytest.mark.parametrize(
    ("selection", "want"),
    [
        (None, keys_of("b") + keys_of("a") + keys_of("c")),
        ("a", keys_of("a")),
        ("train", keys_of("b") + keys_of("a")),
        (["val", "a"], keys_of("a") + keys_of("c")),
        (["a", "a", "train"], keys_of("b") + keys_of("a")),
        ("b[1:3]", keys_of("b")[1:3]),
        ("b[-2:]", keys_of("b")[-2:]),
        (["b[0:40:2]"], keys_of("b")[::2]),
        ("[2:]", keys_of("b")[2:] + keys_of("a")[2:]),
        ("train[:1]", keys_of("b")[:1] + keys_of("a")[:1]),
        ("train@100%", keys_of("b") + keys_of("a")),
        ("train@50%", keys_of("a")),  # the second of two, in the log's order
    ],
)
def test_terms(selection, want):
    assert select(selection) == want


def test_a_number_is_taken_for_the_scene_of_that_name():
    """As configs hold names of scenes that look like numbers."""
    named = {"scenes": ("7", "12"), "splits": {}, "scene_of": np.array([0, 0, 1]), "is_key": np.ones(3, bool)}
    assert select_rows(12, **named).tolist() == [2]
    assert select_rows([12, "7"], **named).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="'1' is neither a split nor a scene"):
        select_rows([1], **named)


@pytest.mark.parametrize("split", ["train", "val", "test[:3]"])
def test_a_log_without_splits_says_what_to_name_in_their_place(split):
    bare = {"scenes": ("b", "a"), "splits": {}, "scene_of": np.array([0, 0, 1]), "is_key": np.ones(3, bool)}
    with pytest.raises(
        InputError, match=r"which has no splits; name scenes in its place \(b, a\), or write `splits`"
    ):
        select_rows(split, **bare)
    with pytest.raises(InputError, match="'c' is neither a split nor a scene of this log"):
        select_rows("c", **bare)
    with pytest.raises(InputError, match="'test' is neither a split nor a scene of this log"):
        select_rows("test", **bare, row_splits={"train": np.ones(3, bool)})


def test_sweeps_go_with_the_key_frame_after_them():
    first_key, second_key = keys_of("b")[:2]
    assert select("b[1:2]", keys_only=False) == list(range(first_key + 1, second_key + 1))
    assert select("b[:1]", keys_only=False) == list(range(first_key + 1))
    last = keys_of("b")[-1]
    assert select("b[4:]", keys_only=False)[-3:] == [last, last + 1, last + 2]
    assert select("b", keys_only=False) == list(range(16))
    assert select(None, keys_only=False) == list(range(len(IS_KEY)))


def test_few_shot_rule_keeps_every_kth_scene_counted_from_one():
    scenes = tuple(f"s{i}" for i in range(700))
    rows = select_rows(
        "train@1%",
        scenes=scenes,
        splits={"train": scenes},
        scene_of=np.arange(700),
        is_key=np.ones(700, dtype=bool),
    )
    assert rows.tolist() == [99, 199, 299, 399, 499, 599, 699]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("trian", "'trian' is neither a split nor a scene of this log (b, a, c); did you mean 'train'?"),
        ("test", "'test' selects no key frame of this log"),
        ("a[9:]", "'a[9:]' selects no key frame"),
        ("a[1]", "'a[1]' is no selection; write scene-0061"),
        ("a[0:4:0]", "the step of a slice cannot be 0"),
        ("train@0%", "0 % has no every-n-th rule"),
        ("train@30%", "30 % has no every-n-th rule because 100/30 is no whole number; use 1, 2"),
        ([], "the selection is empty"),
        (["a", "nothing"], "'nothing' is neither"),
    ],
)
def test_wrong_terms_are_named(selection, message):
    with pytest.raises(InputError, match=re.escape(message)):
        select(selection)


def test_what_is_left_without_others_keeps_its_order_and_what_stands_twice():
    assert without([5, 1, 3, 1, 9], iter([3, 7])) == [5, 1, 1, 9]
    assert without([], [1]) == []
    assert without(range(3), []) == [0, 1, 2]
