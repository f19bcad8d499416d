"""Devices by the names that users give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError, first_line

if TYPE_CHECKING:
    import torch


def usable_device(device: Any) -> torch.device:
    """``device`` as PyTorch's, after a number has been there and back; None is the CPU.

    Args:
        device: its name, such as "cpu", "cuda" or "cuda:1", its number among the GPUs, or a ``torch.device``.

    Raises:
        InputError: there is no such device, this machine or this PyTorch has none, or it keeps no numbers ("meta").
    """
    import torch

    try:
        found = torch.device("cpu" if device is None else device)
        torch.zeros(1, device=found).cpu()
    # an unknown name, a GPU without its driver, one that this PyTorch was not built for: each has an error of its own
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise InputError(
            f"device {str(device)!r} cannot be used ({first_line(error)}); there {'is' if len(there) == 1 else 'are'} "
            f"{', '.join(there)}"
        ) from error
    return found
