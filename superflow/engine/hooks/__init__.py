"""Hooks that configs name. Importing this package registers all of them."""

from .average import EMAHook
from .checkpoint import CheckpointHook
from .health import DivergedError, HealthHook
from .result import ResultHook
from .runtime import RuntimeInfoHook

__all__ = ["CheckpointHook", "DivergedError", "EMAHook", "HealthHook", "ResultHook", "RuntimeInfoHook"]
