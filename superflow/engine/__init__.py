"""Everything mmengine: configs, runner, hooks, checkpoints. Only `superflow/benchmark/` and `tools/` import it."""

from ..hub.checkpoint import read_checkpoint
from . import light_mmengine as light_mmengine  # before anything imports mmengine
from .config import load_config
from .registry import DATASETS, HOOKS, METRICS, MODELS
from .runner import build_runner

__all__ = ["DATASETS", "HOOKS", "METRICS", "MODELS", "build_runner", "load_config", "read_checkpoint"]
