"""Which frames a label-scarce experiment may use. Lists are written out, since the rule alone changes results.

Scene lists spread k % of the labels over few scenes, frame lists over all of them; with the same k the second is
far easier. State which one a figure belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datasets.selection import every_nth_scene, step_of
from ..errors import InputError
from ..files.access import read_text
from ..files.writes import write_atomically


def every_nth(rows: Sequence[int], percent: float) -> list[int]:
    """Every (100/k)-th of ``rows`` in their order, beginning with the first: never none of some.

    Raises:
        InputError: 100/k is no whole number.
    """
    return [int(row) for row in rows][:: step_of(percent)]


def percent_rows(index: Any, rows: Sequence[int], percent: float) -> tuple[list[int], str]:
    """Those of the labelled training frames ``rows`` that k % leaves, ascending, and the rule in words.

    The rule is the published one where the card of the set has one (``fractions``), else every (100/k)-th scan. A log
    with too few scenes for a rule of scenes has the second, and the words say so.

    Raises:
        InputError: 100/k is no whole number.
    """
    rows, step = sorted(int(row) for row in rows), step_of(percent)
    published = index.card.fractions
    source = f" ({published['source']})" if published else ""
    if published.get("of") == "scenes":
        kept, scenes = _of_scenes(index, rows, percent)
        if kept:
            return kept, f"every {step}. scene{source}"
        source = f", for the {scenes} scenes are too few for the published rule{source}"
    return every_nth(rows, percent), f"every {step}. scan from the first{source}"


def fraction_rows(index: Any, percent: float, *, rule: str = "scene", frames: Any = None) -> list[int]:
    """Rows of ``index`` that k % leaves.

    Args:
        index: a ``LogIndex``.
        rule: "scene" (nuScenes) or "frame" (KITTI-type, scene by scene in time order).
        frames: what ``index.rows`` takes; the labelled training part to choose from.

    Raises:
        InputError: an unknown rule, or fewer scenes than 100/k.
    """
    rows = [int(row) for row in index.rows(frames)]
    if rule == "frame":
        return every_nth(rows, percent)
    if rule != "scene":
        raise InputError(f'rule "{rule}" is unknown; choose "scene" or "frame"')
    kept, scenes = _of_scenes(index, rows, percent)
    if not kept:
        raise InputError(
            f"{percent:g} % of {scenes} scenes is less than one; choose a larger percentage, or the rule 'frame'"
        )
    return kept


def _of_scenes(index: Any, rows: Sequence[int], percent: float) -> tuple[list[int], int]:
    """Those of ``rows`` in every (100/k)-th of their scenes, and how many scenes they have."""
    scene_of = {row: index.scene(row) for row in rows}
    present = set(scene_of.values())
    kept = set(every_nth_scene([name for name in index.scenes if name in present], percent))
    return [row for row in rows if scene_of[row] in kept], len(present)


def write_fraction(
    path: str | Path, index: Any, percent: float, *, rule: str = "scene", frames: Any = None
) -> int:
    """Write the token list of ``fraction_rows`` to ``path``; returns how many frames it names.

    Raises:
        InputError: see ``fraction_rows``; or a frame that the rule leaves has no labels.
    """
    rows = fraction_rows(index, percent, rule=rule, frames=frames)
    bare = [row for row in rows if not index.has_labels(row)]
    if bare:
        raise InputError(
            f"frame {index.tokens(bare[:1])[0]} has no labels ({len(bare)} of the {len(rows)} to list); "
            "choose labelled frames only"
        )
    chosen_from = "all key frames" if frames is None else frames
    note = f"{percent:g} % of {chosen_from} by {rule}: {len(rows)} frames of index {index.hash}"
    write_tokens(path, index.tokens(rows), note=note)
    return len(rows)


def write_tokens(path: str | Path, tokens: Sequence[str], *, note: str = "") -> None:
    """Write one token a line, after a comment line with ``note``."""
    with write_atomically(path, "w") as file:
        if note:
            file.write("# " + note.replace("\n", " ") + "\n")
        file.writelines(f"{token}\n" for token in tokens)


def read_tokens(path: str | Path) -> list[str]:
    """The tokens of a list; comment lines and blank lines are skipped.

    Raises:
        MissingFileError: there is no such file.
        InputError: a token occurs twice.
    """
    lines = read_text(path, "write a list of one token a line there").splitlines()
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    check_once(tokens, str(path))
    return tokens


def check_once(tokens: Sequence[str], source: str) -> None:
    """Make sure that no frame counts twice.

    Raises:
        InputError: a token does, in the list ``source``.
    """
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise InputError(f"{source}: token {twice} is listed twice; each frame may count once")
