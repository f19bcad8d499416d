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
    """Starts both servers; options: ``places``, ``dtype``. Gives the clients of perception and language."""
    from superflow.agents.serving import run

    with ExitStack() as stack:

        def start(
            *, places: int = 8, dtype: str = "float32", timeout_s: float = 60.0
        ) -> tuple[Client, Client]:
            eyes = run.perception(folder, small_index.folder, host="127.0.0.1", places=places)
            first = stack.enter_context(serving(eyes))
            voice = run.language(
                folder,
                f"http://127.0.0.1:{first.port}",
                host="127.0.0.1",
                places=places,
                timeout_s=timeout_s,
                dtype=dtype,
            )
            return first, stack.enter_context(serving(voice))

        yield start
