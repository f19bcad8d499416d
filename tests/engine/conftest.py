"""Makes the toy's names importable, here and in the configs that import them by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from engine_toy import CONFIG  # noqa: E402

from superflow.engine import build_runner, load_config  # noqa: E402


@pytest.fixture
def toy_config(tmp_path: Path) -> Path:
    """The toy's config file."""
    path = tmp_path / "toy_run.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def train(toy_config: Path) -> Callable[..., Any]:
    """Trains the toy in this process and returns the finished runner; arguments are those of `load_config`."""

    def run(options: dict[str, Any] | None = None, *, name: str = "work", **further: Any) -> Any:
        config = load_config(toy_config, options=options, work_dir=toy_config.parent / name, **further)
        runner = build_runner(config)
        runner.train()
        return runner

    return run
