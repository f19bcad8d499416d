"""Sparse convolution by spconv, where it is installed: its kernels over our kernel maps, with the same weights.

The pairs come from ``KernelMap`` instead of spconv's own index generation. So the azimuth wraps, odd grids lose
nothing (spconv rounds the coarser grid down and drops the last plane), and no coordinate limit of its hash applies.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import pip_install_extra
from ..sparse import KernelMap

DTYPES = (torch.float32, torch.float16)


def problem(device: torch.device) -> str | None:
    """Why spconv cannot run on ``device``, or None."""
    if importlib.util.find_spec("spconv") is None:
        return f"not installed; {pip_install_extra('spconv')} brings the build for CUDA 12"
    if device.type not in ("cpu", "cuda"):
        return f"knows no device {device.type}"
    try:
        importlib.import_module("spconv.pytorch")
    except Exception as error:  # a build for another CUDA or another cumm fails in many ways
        return f"cannot be imported: {error}"
    return None


def version() -> str:
    """Name and version of the installed build."""
    names = importlib.metadata.packages_distributions().get("spconv", ["spconv"])
    return f"{names[0]} {importlib.metadata.version(names[0])}"


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Output (num_out, Cout) of the convolution with ``weight`` (K, Cin, Cout) over ``features`` (num_in, Cin)."""
    from spconv.core import ConvAlgo
    from spconv.pytorch import functional

    if kernel_map.num_out == 0 or kernel_map.num_in == 0:
        return features.new_zeros(kernel_map.num_out, weight.shape[2]) + (features.sum() + weight.sum()) * 0
    listed, counts = prepare(kernel_map)
    volume, channels_in, channels_out = weight.shape
    side = round(volume ** (1 / 3))
    # spconv keeps (Cout, kx, ky, kz, Cin); the order of the offsets is the same
    filters = weight.permute(2, 0, 1).contiguous().view(channels_out, side, side, side, channels_in)
    run = functional.indice_subm_conv if kernel_map.mirrored else functional.indice_conv
    # under autocast, of whatever dtype, spconv would cast to float16 by itself
    with torch.autocast("cuda", enabled=False):
        return run(features.contiguous(), filters, listed, counts, kernel_map.num_out, ConvAlgo.Native)


def prepare(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """The pairs as spconv keeps them, made at the first call: what ``convolve`` does before it multiplies."""
    return kernel_map.arranged("spconv", _pairs)


def prepare_all(maps: Sequence[KernelMap]) -> None:
    """`prepare` for several maps."""
    for one in maps:
        prepare(one)


def _pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """(2, K, P) int32 input and output rows padded with -1, and (K,) int32 counts, as spconv keeps them.

    The counts stay on the CPU: there every layer reads them, and elsewhere it would wait for the device to do so.
    """
    counts, rows = list(kernel_map.counts), torch.stack([kernel_map.rows_in, kernel_map.rows_out])
    width = max(1, *counts)
    table = rows.new_full((2, len(counts) * width), -1)
    pair = torch.arange(rows.shape[1], device=rows.device)
    # an offset without pairs begins where the next one does, so that the last of those is meant
    offset = torch.searchsorted(kernel_map.firsts, pair, right=True) - 1
    table.index_copy_(1, offset * width + pair - kernel_map.firsts[offset], rows)
    return table.view(2, len(counts), width), torch.tensor(counts, dtype=torch.int32)
