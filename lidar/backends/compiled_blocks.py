"""Sparse convolution in compiled code, in single precision on a CPU: the blocks of `torch_blocks`, a call a pass.

The same gathers, products and sums, with the same bits for one thread; without an operator of PyTorch for each of
them, so that threads which have blocks of their own (`block_threads`) do not wait for the interpreter's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sparse import KernelMap
from . import compiled_passes as passes
from .block_threads import run, shares
from .compiled_passes import Arranged
from .gradients import Convolve
from .torch_blocks import version
from .torch_sums import block_rows

__all__ = ["DTYPES", "convolve", "prepare", "prepare_all", "problem", "version"]

Matrix: TypeAlias = NDArray[np.float32]
Run: TypeAlias = tuple[int, int]  # the first, and the one after the last
DTYPES = (torch.float32,)
# Rows and pairs of a block at most: what is gathered and multiplied stays in the cache until it is summed.
BLOCK = (8192, 4096)
_NAME = "compiled_blocks"  # of what is kept with a map


def problem(device: torch.device) -> str | None:
    """Why it cannot run on ``device``, or None."""
    if device.type != "cpu":
        return "it runs on a CPU alone"
    return None if passes.blas() else "PyTorch's library shows compiled code no matrix product on this system"


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Output (num_out, Cout) from ``features`` (num_in, Cin) and ``weight`` (K, Cin, Cout), all float32.

    Raises:
        ValueError: shapes or dtypes do not fit together; compiled code would read beyond them.
    """
    rows, offsets = kernel_map.num_in, len(kernel_map.counts)
    fits = weight.dim() == 3 and features.shape == (rows, weight.shape[1]) and len(weight) == offsets
    if not fits or {features.dtype, weight.dtype} != {torch.float32}:
        given = f"features {tuple(features.shape)} {features.dtype} and weight {tuple(weight.shape)} {weight.dtype}"
        raise ValueError(
            f"{given} do not fit a map of {offsets} offsets from {rows} rows; "
            f"give ({rows}, Cin) and ({offsets}, Cin, Cout) in float32"
        )
    return Convolve.apply(features.contiguous(), weight.contiguous(), kernel_map, _forward, _backward)


_TYPES = {torch.float32: np.dtype(np.float32).str, torch.int32: np.dtype(np.int32).str}


class _Shown:
    """The memory of a tensor as NumPy takes it, whatever PyTorch records of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # lives as long as the array
        self.__array_interface__ = {
            "shape": tuple(tensor.shape),
            "typestr": _TYPES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
            "version": 3,
        }


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(_Shown(tensor))


def _forward(features: Tensor, weight: Tensor, kernel_map: KernelMap, output: Tensor) -> None:
    given, target = (_array(features), _array(weight)), _array(output)
    arranged, center = prepare(kernel_map), _center(kernel_map)

    def write(blocks: Run) -> None:
        rows, pairs = _largest(arranged, blocks)
        room = _room(rows * features.shape[1], pairs * output.shape[1])
        passes.forward(passes.blas(), arranged, center, *given, target, blocks, *room)

    run([partial(write, blocks) for blocks in _shares(arranged)])


def _backward(
    features: Tensor,
    weight: Tensor,
    grad: Tensor,
    kernel_map: KernelMap,
    grad_features: Tensor | None,
    grad_weight: Tensor | None,
) -> None:
    """Both gradients: blocks of input rows with the output gradients that they reach.

    From one gather by one thread. Several gather once more, so that a sum over blocks is made by one of them, in the
    order that it has without the others: rows are shared out by blocks, weights by their offsets.
    """
    arranged, center = prepare(kernel_map.transposed), _center(kernel_map)
    given = _array(features), _array(weight), _array(grad)
    to_features = _array(features[:0] if grad_features is None else grad_features)
    to_weight = _array(weight[:0] if grad_weight is None else grad_weight)
    all_blocks, all_offsets = (0, len(arranged.cuts)), (0, len(weight))

    def write(blocks: Run, offsets: Run, to_features: Matrix, to_weight: Matrix) -> None:
        rows, pairs = _largest(arranged, blocks)
        room = _room(rows * grad.shape[1], rows * features.shape[1], pairs * features.shape[1])
        along = arranged, center, kernel_map.mirrored
        passes.backward(passes.blas(), *along, *given, to_features, to_weight, blocks, offsets, room)

    blocks, offsets = _shares(arranged), _shares_of_offsets(arranged, center)
    if len(blocks) == len(offsets) == 1:
        write(all_blocks, all_offsets, to_features, to_weight)
        return
    rows = [
        partial(write, own, all_offsets, to_features, to_weight[:0]) for own in blocks if len(to_features)
    ]
    weights = [
        partial(write, all_blocks, own, to_features[:0], to_weight) for own in offsets if len(to_weight)
    ]
    run([partial(_one_after_the_other, calls) for calls in zip_longest(rows, weights)])


def _one_after_the_other(calls: Iterable[Callable[[], None] | None]) -> None:
    for call in calls:
        if call is not None:
            call()


def _center(kernel_map: KernelMap) -> int:
    return -1 if kernel_map.center is None else kernel_map.center


def _largest(arranged: Arranged, blocks: Run) -> tuple[int, int]:
    """Pairs of one offset in a block, and pairs of a block, at most."""
    cuts = arranged.cuts[slice(*blocks)]
    return (int(np.diff(cuts).max()), int((cuts[:, -1] - cuts[:, 0]).max())) if len(cuts) else (0, 0)


def _shares(arranged: Arranged) -> list[Run]:
    """Blocks of each thread."""
    pairs = arranged.cuts[:, -1] - arranged.cuts[:, 0]
    return shares((pairs + np.diff(arranged.edges)).tolist())


def _shares_of_offsets(arranged: Arranged, center: int) -> list[Run]:
    """Offsets of each thread, by the pairs that its map has of them; of the centre, each row is one."""
    pairs = np.diff(arranged.cuts, axis=1).sum(axis=0)
    if center >= 0:
        pairs[center] = arranged.edges[-1]
    return shares(pairs.tolist())


_local = threading.local()


def _room(*sizes: int) -> tuple[Matrix, ...]:
    """Memory of this thread for so many numbers each, which grows to the largest request."""
    kept = _local.__dict__.setdefault("room", {})
    for at, size in enumerate(sizes):
        if at not in kept or len(kept[at]) < size:
            kept[at] = np.empty(size, np.float32)
    return tuple(kept[at] for at in range(len(sizes)))


def prepare(kernel_map: KernelMap) -> Arranged:
    """The map as the passes take it, made at the first call: what ``convolve`` does before it multiplies."""
    return kernel_map.arranged(_NAME, _arrange)


def prepare_all(maps: Sequence[KernelMap]) -> None:
    """`prepare` for several maps."""
    for one in maps:
        prepare(one)


def _arrange(kernel_map: KernelMap) -> Arranged:
    rows, pairs = kernel_map.num_out, len(kernel_map.rows_out)
    size = block_rows(kernel_map, *BLOCK)
    edges = np.array([*range(0, rows, size), rows])
    arranged = Arranged(
        rows_in=np.empty(pairs, np.int32),
        rows_out=np.empty(pairs, np.int32),
        cuts=np.empty((len(edges) - 1, len(kernel_map.counts) + 1), np.int64),
        edges=edges,
        products=np.empty(pairs, np.int32),
        starts=np.empty(rows + 1, np.int64),
    )
    rows_in, rows_out = (_array(rows.contiguous()) for rows in (kernel_map.rows_in, kernel_map.rows_out))
    counts = np.array(kernel_map.counts, np.int64)
    passes.arrange(
        *(rows_in, rows_out, counts, edges, arranged.rows_in, arranged.rows_out),
        *(arranged.cuts, arranged.products, arranged.starts),
    )
    return arranged
