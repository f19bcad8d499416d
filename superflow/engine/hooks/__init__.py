"""Hooks that configs name. Importing this package registers all of them."""

from typing import Any

from .average import EMAHook as EMAHook
from .checkpoint import CheckpointHook as CheckpointHook
from .health import DivergedError as DivergedError
from .health import FirstBatchesHook as FirstBatchesHook
from .health import HealthHook as HealthHook
from .result import LoggerHook as LoggerHook
from .result import ResultHook as ResultHook
from .result import RuntimeInfoHook as RuntimeInfoHook

# what every run has; a config's default_hooks change or (with None) remove them
DEFAULT_HOOKS: dict[str, dict[str, Any]] = {
    "runtime_info": {"type": "RuntimeInfoHook"},
    "timer": {"type": "IterTimerHook"},
    "health": {"type": "HealthHook"},
    "first_batches": {"type": "FirstBatchesHook"},
    "logger": {"type": "LoggerHook", "interval": 50},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "checkpoint": {"type": "CheckpointHook"},
    "result": {"type": "ResultHook"},
}
