"""Cases as others train with them: lines of JSON, rows of verl, reward functions of trl and of verl."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, suggest
from ...files.writes import write_atomically
from ..scene import SceneRecord
from .bootcamp import Bootcamp, Identity, NoQuestion
from .registry import families, family_of

Row = dict[str, Any]
Describe = Callable[[SceneRecord], str]


def mixed_cases(
    scenes: Sequence[SceneRecord],
    count: int,
    *,
    names: Sequence[str] | None = None,
    levels: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    seed: int = 0,
) -> Iterator[Identity]:
    """Cases of several families in turn, each of a difficulty that is drawn from the family's grid.

    A difficulty that these scenes do not allow, as the four nearest of three things, is drawn no more.

    Args:
        names: of families; None for all of which these scenes allow a question.
        levels: family -> difficulties to draw from; None for all families with their whole grids.

    Raises:
        InputError: there is no such family, or no family, or one of ``names``, can ask anything about these scenes.
    """
    grids = levels or {name: family.difficulty_grid() for name, family in families().items()}
    wrong = next((name for name in names or () if name not in grids), None)
    if wrong is not None:
        raise InputError(f"there is no family {wrong!r} of questions{suggest(wrong, grids)}")
    rng = np.random.default_rng(seed)
    camps: dict[tuple[str, str], Bootcamp] = {}  # kept, since each keeps its answers in balance
    open_levels = {name: list(grids[name]) for name in names or grids}
    turn, made = list(names or grids), 0
    while made < count:
        name = turn.pop(0)
        level = int(rng.integers(len(open_levels[name])))
        options = open_levels[name][level]
        key = name, json.dumps(options)
        if key not in camps:
            camps[key] = families()[name](scenes, seed=int(rng.integers(2**31)), **options)
        try:
            case = camps[key].case_generator()
        except NoQuestion:
            del open_levels[name][level]
            if open_levels[name]:
                turn.insert(0, name)
            elif names or not turn:
                raise
            continue
        turn.append(name)
        made += 1
        yield case


def prompt_of(
    identity: Identity, scene_of: Mapping[str, SceneRecord] | None, describe: Describe | None
) -> str:
    """The prompt of a case; with ``describe``, after the scene as text."""
    prompt = family_of(identity).prompt_func(identity)
    if describe is None or scene_of is None:
        return prompt
    return f"{describe(scene_of[identity['scene']])}\n\n{prompt}"


def json_row(identity: Identity, prompt: str) -> Row:
    """InternBootcamp's row."""
    return {"data_source": identity["family"], "prompt": prompt, "ground_truth": identity}


def verl_row(identity: Identity, prompt: str, *, index: int, split: str) -> Row:
    """verl's row of a rule-based reward; ``compute_score`` is its function. Without the empty structs of tools."""
    truth = json.dumps(identity)
    return {
        "data_source": f"bootcamp/{identity['family']}",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "driving",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {
            "index": index,
            "split": split,
            "generator_name": identity["family"],
            "scene": identity["scene"],
            "need_tools_kwargs": False,
        },
    }


def write_jsonl(rows: Iterable[Row], path: str | Path) -> int:
    """Write a row a line; returns how many there are."""
    count = 0
    with write_atomically(path, "w") as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            count += 1
    return count


def write_parquet(rows: Iterable[Row], path: str | Path) -> int:
    """Write rows as verl reads them; returns how many there are."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(list(rows))
    with write_atomically(path) as file:
        pyarrow.parquet.write_table(table, file)
    return int(table.num_rows)


def reward_function(completions: Sequence[Any], identity: Sequence[Any], **_: Any) -> list[float]:
    """trl's reward function, for a dataset with a column ``identity`` of cases, as JSON text or as objects.

    Args:
        completions: texts, or lists of messages, of which the last one's content counts, a text or a list of parts.
            What is no text scores 0.
    """
    return [_score(completion, case) for completion, case in zip(completions, identity, strict=True)]


def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> float:
    """verl's reward function for `verl_row`."""
    return _score(solution_str, ground_truth)


def _score(completion: Any, case: Any) -> float:
    identity = json.loads(case) if isinstance(case, str) else case
    return family_of(identity).verify_score(_text_of(completion), identity)


def _text_of(completion: Any) -> str:
    """What a model said; "" where it said nothing, as a message that only calls a tool: it must not end a training."""
    last = completion[-1] if isinstance(completion, list | tuple) and completion else None
    if isinstance(last, Mapping) and "content" in last:
        completion = last["content"]
    if isinstance(completion, list | tuple):  # parts, of which some may be images
        return "".join(str(part.get("text") or "") for part in completion if isinstance(part, Mapping))
    return completion if isinstance(completion, str) else ""
