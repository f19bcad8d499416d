"""Single pieces of work beside what they are held to: a narrow layer, superpixels of an image, votes of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ...camera.identity import ImageIdentity
from ...camera.superpixels.map_file import MapNote, encode_map, read_map
from ...camera.superpixels.slic import Slic
from ...downstream.voting import Ballot, VotingOptions, vote
from ...lidar.conv import SubMConv, use_backend
from ...lidar.sparse import Pyramid, SparseTensor
from .clouds import clouds, exactly
from .network import usable_backends
from .options import Options, Table, spread
from .scans import dense_scan
from .turns import Turns, Work, in_turn

NARROW = 32  # channels
IMAGE = (900, 1600)
POINTS, CLASSES = 100_000, 16  # of a scan that votes
VOTERS = {"ten": [n for n in range(-5, 6) if n], "four": [-2, -1, 1, 2]}
STEP_M, NEAR_M = 0.5, 0.2  # from a scan to the next; how far a nearest neighbour may lie


def layers(options: Options) -> list[Table]:
    """A layer of 32 channels, and as many products of rows with a matrix as it has pairs, all at once."""
    tables = []
    for count in options.voxels:
        with use_backend(usable_backends()[0]):
            works, pairs = _layer(options, count)
            turns = in_turn(works, rounds=options.rounds, clock=options.clock)
        beside = {"forward": "a product", "backward": "two products"}
        title = f"A layer of {NARROW} channels, {count} voxels, {pairs} pairs"
        tables.append(_table(title, turns, {name: (other, name) for name, other in beside.items()}))
    return tables


def _layer(options: Options, count: int) -> tuple[dict[str, Work], int]:
    torch.manual_seed(0)
    pyramid = Pyramid.from_voxels(exactly(count, clouds(options.data), options.grid_m(0.1)))
    pairs = count + sum(pyramid.subm(0).counts)  # the centre is no offset of the map
    layer, rows = SubMConv(NARROW, NARROW), torch.randn(count, NARROW, requires_grad=True)
    given = SparseTensor(rows, pyramid)
    made = layer(given).features
    change, learns = torch.randn_like(made), [rows, *layer.parameters()]
    left, right, out = torch.randn(pairs, NARROW), torch.randn(NARROW, NARROW), torch.empty(pairs, NARROW)
    small = torch.empty_like(right)

    def two_products() -> None:
        torch.mm(left, right, out=out)
        torch.mm(left.T, out, out=small)

    works: dict[str, Work] = {
        "forward": lambda: layer(given),
        "a product": lambda: torch.mm(left, right, out=out),
        "backward": lambda: torch.autograd.grad(made, learns, change, retain_graph=True),
        "two products": two_products,
    }
    return works, pairs


def superpixels(options: Options) -> list[Table]:
    """SLIC with its defaults on an image of nuScenes' size, and its file."""
    coarse = np.random.default_rng(0).integers(0, 256, (18, 32, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(coarse, IMAGE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    maker, note = Slic(), MapNote(IMAGE, ImageIdentity(0, 0, ""))
    ids = maker.compact(image)
    cv2.setNumThreads(1)
    with TemporaryDirectory(prefix="superflow_superpixels_") as folder:
        path = Path(folder) / "map.png"
        path.write_bytes(encode_map(ids, note))
        works: dict[str, Work] = {
            "made": lambda: maker.compact(image),
            "written": lambda: encode_map(ids, note),
            "read": lambda: read_map(path),
        }
        turns = in_turn(works, rounds=options.rounds, clock=options.clock)
    return [_table(f"Superpixels of an image of {IMAGE[0]} x {IMAGE[1]}", turns, {})]


def votes(options: Options) -> list[Table]:
    """Scans that vote on one, and the same scans asked for the nearest neighbour by a k-d tree each.

    As in a drive, one of the scans has not voted before; "all new": none has, and none has been voted on, which is
    what trees that are built anew are beside.
    """
    scans = _scans()
    works: dict[str, Work] = {}
    for name, voters in VOTERS.items():
        works[name] = lambda voters=voters: _vote(scans, voters, voters[-1:])  # type: ignore[misc]
        works[f"{name}, all new"] = lambda voters=voters: _vote(scans, voters, [0, *voters])  # type: ignore[misc]
        works[f"{name}, by trees"] = lambda voters=voters: _by_trees(scans, voters)  # type: ignore[misc]
    turns = in_turn(works, rounds=options.rounds, clock=options.clock)
    beside = {f"{name}, by trees": (f"{name}, by trees", f"{name}, all new") for name in VOTERS}
    return [_table(f"Votes on a scan of {POINTS} points, {CLASSES} classes", turns, beside)]


def _scans() -> dict[int, Ballot]:
    """Scans of a vehicle that drives on, by offset."""
    draw = torch.Generator().manual_seed(0)
    street, scans = dense_scan(2 * POINTS)[:, :3], {}
    for offset in range(-5, 6):
        pose = np.eye(4)
        pose[0, 3] = STEP_M * offset
        chosen = street[torch.randperm(len(street), generator=draw)[:POINTS]]
        chance = torch.rand(len(chosen), CLASSES, generator=draw)
        moved = chosen - torch.tensor([STEP_M * offset, 0.0, 0.0])
        scans[offset] = Ballot(moved, chance / chance.sum(1, keepdim=True), pose)
    return scans


def _vote(scans: dict[int, Ballot], voters: list[int], new: Sequence[int] = ()) -> Tensor:
    scans.update({offset: replace(scans[offset]) for offset in new})  # a copy knows nothing yet
    others = {offset: scans[offset] for offset in voters}
    return vote(scans[0], others, VotingOptions(offsets=tuple(voters))).probabilities


def _by_trees(scans: Mapping[int, Ballot], voters: list[int]) -> NDArray[np.float32]:
    own = scans[0].xyz.numpy()
    total = np.zeros((len(own), CLASSES), np.float32)
    for other in (scans[offset] for offset in voters):
        tree = cKDTree(other.xyz.numpy() + other.lidar_to_world[:3, 3].astype(np.float32))
        distance, row = tree.query(own, distance_upper_bound=NEAR_M)
        near = np.isfinite(distance)
        total[near] += other.probabilities.numpy()[row[near]]
    return total


def _table(title: str, turns: Turns, beside: Mapping[str, tuple[str, str]]) -> Table:
    """Milliseconds of each work; ``beside`` names for some the two whose ratio stands in their row."""
    rows = []
    for name, took in turns.seconds.items():
        rows.append(
            [
                name,
                f"{1e3 * median(took):.2f}",
                spread([1e3 * s for s in took]),
                f"{' / '.join(beside[name])}: {turns.compared(*beside[name])}" if name in beside else "",
            ]
        )
    return Table(title, ("work", "ms", "from, to", "ratio"), rows, [turns.conditions()], turns.record())
