"""The passes of `compiled_blocks` over blocks of rows: gather, multiply by PyTorch's own BLAS, sum a row's products.

Matrices are float32, row by row without gaps; rows int32. Nothing here holds the interpreter's lock, and what is
gathered and multiplied goes into memory that the caller lends.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba.experimental.function_type  # noqa: F401  teaches numba to take functions of C as arguments
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray

from ...compiled import compiled

_LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll")


class Gemm(types.WrapperAddressProtocol):
    """Fortran's ``sgemm`` at an address. Its arguments are addresses: of two letters, three sizes, alpha, A, lda, B,
    ldb, beta, C, ldc.
    """

    def __init__(self, address: int) -> None:
        self.address = address

    def __wrapper_address__(self) -> int:
        return self.address

    def signature(self) -> Any:
        return types.void(*[types.uintp] * 13)


class Blas(NamedTuple):
    """A matrix product, and what it is handed by address: the letters N and T, 0 and 1, room for five sizes."""

    gemm: Gemm
    letters: NDArray[np.uint8]
    numbers: NDArray[np.float32]
    sizes: NDArray[np.int32]


_local = threading.local()


def blas() -> Blas | None:
    """For this thread, the BLAS inside PyTorch, which goes by `torch.set_num_threads`; None where it shows none."""
    gemm = _gemm()
    if gemm is not None and "blas" not in _local.__dict__:
        letters, numbers = np.frombuffer(b"NT", np.uint8).copy(), np.array([0.0, 1.0], np.float32)
        _local.blas = Blas(gemm, letters, numbers, np.empty(5, np.int32))
    return _local.__dict__.get("blas")


@cache
def _gemm() -> Gemm | None:
    for file in (Path(torch.__file__).parent / "lib" / name for name in _LIBRARIES):
        if file.is_file():
            function = getattr(ctypes.CDLL(str(file)), "sgemm_", None)
            return None if function is None else Gemm(ctypes.cast(function, ctypes.c_void_p).value or 0)
    return None


class Arranged(NamedTuple):
    """A kernel map whose pairs lie block by block, in a block offset by offset, in those by output row.

    rows_in, rows_out: (pairs,) int32. cuts: (blocks, K + 1) int64, where the pairs of each offset begin and end. edges:
    (blocks + 1,) int64 output rows. products: (pairs,) int32 by output row, which of its block's products it sums;
    starts: (num_out + 1,) int64, where those of each row begin.
    """

    rows_in: NDArray[np.int32]
    rows_out: NDArray[np.int32]
    cuts: NDArray[np.int64]
    edges: NDArray[np.int64]
    products: NDArray[np.int32]
    starts: NDArray[np.int64]


@compiled(nogil=True)
def arrange(rows_in, rows_out, counts, edges, new_in, new_out, cuts, products, starts):
    """Fill the arrays of an `Arranged` from the pairs of a map, which lie offset by offset (``counts``)."""
    offsets = len(counts)
    at = np.zeros(offsets + 1, np.int64)
    for k in range(offsets):
        at[k + 1] = at[k] + counts[k]
    ends = at[1:].copy()
    starts[:] = 0
    for row in rows_out:
        starts[row + 1] += 1
    for row in range(len(starts) - 1):
        starts[row + 1] += starts[row]
    filled = starts[:-1].copy()
    pair = 0
    for b in range(len(edges) - 1):
        first = pair
        for k in range(offsets):
            cuts[b, k] = pair
            while at[k] < ends[k] and rows_out[at[k]] < edges[b + 1]:
                row = rows_out[at[k]]
                new_in[pair], new_out[pair] = rows_in[at[k]], row
                products[filled[row]] = pair - first
                filled[row] += 1
                at[k] += 1
                pair += 1
        cuts[b, offsets] = pair


@compiled(nogil=True)
def forward(blas, arranged, center, features, weight, output, blocks, gathered, products):
    """Write the output rows of ``blocks`` (first, last): the convolution of ``features`` with ``weight``.

    Args:
        center: offset that leads from each row to itself and is not among the pairs, or -1.
        features, weight, output: (num_in, Cin), (K, Cin, Cout), (num_out, Cout).
        gathered, products: room for the inputs of an offset, for the products of a block.
    """
    rows_in, _, cuts, edges, _, _ = arranged
    into, out_of = weight.shape[1], weight.shape[2]
    for b in range(blocks[0], blocks[1]):
        for k in range(len(weight)):
            begin, count = cuts[b, k], cuts[b, k + 1] - cuts[b, k]
            if count > 0:
                _gather(features, rows_in, begin, count, gathered)
                product = products[(begin - cuts[b, 0]) * out_of :]
                _multiply(blas, gathered, False, weight[k], False, 0, product, count, out_of, into)
        _sum(arranged, b, products, output)
        if center >= 0:
            own, target, rows = features[edges[b] :], output[edges[b] :], edges[b + 1] - edges[b]
            _multiply(blas, own, False, weight[center], False, 1, target, rows, out_of, into)


@compiled(nogil=True)
def backward(
    blas, arranged, center, mirrored, features, weight, grad, to_features, to_weight, blocks, offsets, room
):
    """Write the gradients of the input rows of ``blocks``, and add what these rows have in it to that of the weight.

    Args:
        arranged: the map from the output to the input.
        mirrored: whether its offsets are those of the weight in reverse order.
        features, weight, grad: (num_in, Cin), (K, Cin, Cout), (num_out, Cout) gradients of the output.
        to_features, to_weight: (num_in, Cin), (K, Cin, Cout); not asked for where they have no rows.
        offsets: of the map (first, last), those that are gone through; gradients of rows need all of them.
        room: for the output gradients of an offset, its inputs, and the products of a block.
    """
    rows_in, rows_out, cuts, edges, _, _ = arranged
    gathered, inputs, products = room
    into, out_of = weight.shape[1], weight.shape[2]
    for b in range(blocks[0], blocks[1]):
        for k in range(offsets[0], offsets[1]):
            begin, count = cuts[b, k], cuts[b, k + 1] - cuts[b, k]
            if count == 0:
                continue
            own = len(weight) - 1 - k if mirrored else k
            _gather(grad, rows_in, begin, count, gathered)
            if len(to_weight) > 0:
                _gather(features, rows_out, begin, count, inputs)
                _multiply(blas, inputs, True, gathered, False, 1, to_weight[own], into, out_of, count)
            if len(to_features) > 0:
                product = products[(begin - cuts[b, 0]) * into :]
                _multiply(blas, gathered, False, weight[own], True, 0, product, count, into, out_of)
        if len(to_features) > 0:
            _sum(arranged, b, products, to_features)
            if center >= 0:
                own_grad, target, rows = grad[edges[b] :], to_features[edges[b] :], edges[b + 1] - edges[b]
                _multiply(blas, own_grad, False, weight[center], True, 1, target, rows, into, out_of)
    if offsets[0] <= center < offsets[1] and len(to_weight) > 0:
        begin, end = edges[blocks[0]], edges[blocks[1]]
        _multiply(
            blas,
            features[begin:end],
            True,
            grad[begin:end],
            False,
            1,
            to_weight[center],
            into,
            out_of,
            end - begin,
        )


@compiled(nogil=True)
def _gather(values, rows, begin, count, target):
    columns = values.shape[1]
    for i in range(count):
        row = rows[begin + i]
        for c in range(columns):
            target[i * columns + c] = values[row, c]


@compiled(nogil=True)
def _sum(arranged, b, products, output):
    """Write each output row of a block: the sum of its ``products`` in their order, or zeros."""
    _, _, cuts, edges, order, starts = arranged
    columns = output.shape[1]
    count = cuts[b, -1] - cuts[b, 0]
    # two axes: then loops are vectorised
    rows_of_products = products[: count * columns].reshape((count, columns))
    for row in range(edges[b], edges[b + 1]):
        for c in range(columns):
            output[row, c] = 0.0
        for place in range(starts[row], starts[row + 1]):
            at = order[place]
            for c in range(columns):
                output[row, c] += rows_of_products[at, c]


@compiled(nogil=True)
def _multiply(blas, a, a_turned, b, b_turned, add, out, rows, columns, inner):
    """``out`` (rows, columns) = ``add`` * itself + a (rows, inner) @ b (inner, columns), either turned if it lies so.

    BLAS goes column by column and so sees every matrix turned: its first is our second.
    """
    gemm, letters, numbers, sizes = blas
    sizes[0], sizes[1], sizes[2] = columns, rows, inner
    sizes[3] = inner if b_turned else columns
    sizes[4] = rows if a_turned else inner
    letter, number, size, step = letters.ctypes.data, numbers.ctypes.data, sizes.ctypes.data, np.uintp(4)
    gemm(
        letter + np.uintp(b_turned),
        letter + np.uintp(a_turned),
        size,
        size + step,
        size + np.uintp(8),
        number + step,
        b.ctypes.data,
        size + np.uintp(12),
        a.ctypes.data,
        size + np.uintp(16),
        number + step * np.uintp(add),
        out.ctypes.data,
        size,
    )
