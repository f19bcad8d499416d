"""All that is measured, by name, and its figures as JSON and Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ...lidar.conv import load_backend
from . import growth, kernels, launches, network, parts, reading, sample, scans, step, tables, threads
from .network import usable_backends
from .options import Options, Table

# name -> what makes its tables
MEASURES: dict[str, Callable[[Options], list[Table]]] = {
    "networks": network.measure,
    "threads": threads.measure,
    "launches": launches.measure,
    "layers": kernels.layers,
    "parts": parts.measure,
    "step": step.measure,
    "sample": sample.measure,
    "scans": scans.measure,
    "votes": kernels.votes,
    "superpixels": kernels.superpixels,
    "growth": growth.measure,
    "reading": reading.measure,
    "tables": tables.measure,
}


def measure(names: Sequence[str], options: Options) -> Iterator[tuple[str, Table]]:
    """Every table as soon as it is there, with the name of its measure."""
    for name in names:
        for table in MEASURES[name](options):
            yield name, table


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: load_backend(name).version() for name in usable_backends()},
        "load": round(os.getloadavg()[0], 2),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def record(made_on: dict[str, Any], options: Options, tables: Sequence[tuple[str, Table]]) -> dict[str, Any]:
    """Every figure as plain values; ``made_on`` is `machine`, asked before."""
    said = {key: str(value) for key, value in asdict(options).items()}
    found: dict[str, Any] = {"machine": made_on, "options": said}
    for name, table in tables:
        found.setdefault(name, []).append({"title": table.title, **table.record})
    return found


def markdown(made_on: dict[str, Any], tables: Sequence[tuple[str, Table]]) -> str:
    """Every table as text, under what it was made on."""
    about = ", ".join(f"{key} {value}" for key, value in made_on.items())
    return "\n".join([f"{about}", "", *(table.markdown() for _, table in tables)])
