"""Both servers over a small model, each in a thread of the test's process, on free ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .client import Client, serving


@pytest.fixture
def folder(make_vlm: Callable[..., Any], tmp_path: Path) -> Path:
    """A saved model."""
    pytest.importorskip("fastapi", reason="needs the extra agents")
    model, processor = make_vlm()
    model.save_pretrained(tmp_path / "vlm")
    processor.save_pretrained(tmp_path / "vlm")
    return tmp_path / "vlm"


@pytest.fixture
def both(folder: Path, small_index: Any) -> Iterator[Callable[..., Any]]:
    """Starts both servers, and gives the clients of perception and language.

    Options: ``places``, ``dtype``, ``timeout_s``, ``model``, and ``share`` of kept tiles.
    """
    from superflow.agents.serving import run

    with ExitStack() as stack:

        def start(
            *,
            places: int = 8,
            dtype: str = "float32",
            timeout_s: float = 60.0,
            model: Path = folder,
            share: float | None = None,
        ) -> tuple[Client, Client]:
            eyes = run.perception(model, small_index.folder, host="127.0.0.1", places=places, share=share)
            first = stack.enter_context(serving(eyes))
            voice = run.language(
                model,
                f"http://127.0.0.1:{first.port}",
                host="127.0.0.1",
                places=places,
                timeout_s=timeout_s,
                dtype=dtype,
            )
            return first, stack.enter_context(serving(voice))

        yield start


@pytest.fixture
def routed(make_vlm: Callable[..., Any], scan: Any, tmp_path: Path) -> Path:
    """A saved model of eight tiles whose router has budgets; its folder is ``vlm``, too."""
    pytest.importorskip("fastapi", reason="needs the extra agents")
    import torch

    from superflow.agents.vlm import vir
    from superflow.agents.vlm.bev import BevGrid

    model, processor = make_vlm(grid=BevGrid(rows=8, columns=16, cell_m=2.5, tile=4), merge=2, short_merge=4)
    planes = model.model.get_lidar_planes(torch.stack([scan(seed) for seed in range(4)]))
    vir.set_budgets(model, planes.detach(), (0.25, 0.5))
    folder = tmp_path / "routed" / "vlm"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
