"""Which scans train and which are held out: whole scenes, since neighbouring scans show the same things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.access import read_json
from ..files.writes import write_json
from ..protocol import token_hash
from .scene import SceneRecord

Split = dict[str, tuple[str, ...]]  # name -> tokens of scans, ascending


def split_scenes(records: Iterable[SceneRecord], shares: Mapping[str, float], *, seed: int) -> Split:
    """Tokens of each part; scans of one scene are all in one.

    Args:
        shares: part -> share of the scenes, which add up to 1; each part gets at least one scene.

    Raises:
        InputError: there are fewer scenes than parts, or the shares are no shares.
    """
    tokens: dict[str, list[str]] = {}
    for scene in records:
        tokens.setdefault(scene.scene, []).append(scene.token)
    if any(share <= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"the shares {dict(shares)} do not add up to 1; give positive ones that do")
    if len(tokens) < len(shares):
        raise InputError(
            f"{len(tokens)} scenes cannot be split into {len(shares)} parts without cutting one; give more scenes"
        )
    order = np.random.default_rng(seed).permutation(sorted(tokens))
    ends = [0]
    for i, end in enumerate(np.cumsum(list(shares.values())), start=1):
        left = len(tokens) - (len(shares) - i)  # each later part gets at least one
        ends.append(min(max(round(float(end) * len(tokens)), ends[-1] + 1), left))
    return {
        name: tuple(sorted(token for scene in order[start:end] for token in tokens[str(scene)]))
        for name, start, end in zip(shares, ends, ends[1:])
    }


def write_split(split: Split, path: str | Path) -> None:
    """Write the lists as JSON, each with the hash of its tokens."""
    parts = {name: {"tokens": list(tokens), "hash": token_hash(tokens)} for name, tokens in split.items()}
    write_json(path, parts)


def read_split(path: str | Path) -> Split:
    """The lists of a file.

    Raises:
        InputError: the file is wrong, a list was changed since, or a token stands in two lists.
    """
    again = "write it again with write_split"
    found: Split = {}
    for name, part in read_json(path, again).items():
        try:
            tokens, digest = tuple(map(str, part["tokens"])), part["hash"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: {name!r} has no tokens and hash; {again}") from error
        if token_hash(tokens) != digest:
            raise InputError(f"{path}: the tokens of {name!r} are not those of its hash; {again}")
        twice = next((other for other, known in found.items() if set(known) & set(tokens)), None)
        if twice is not None:
            raise InputError(f"{path}: {name!r} and {twice!r} share a token; {again}")
        found[name] = tokens
    return found
