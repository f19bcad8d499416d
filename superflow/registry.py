"""Where mmengine looks for the registries of the scope ``superflow`` (it imports ``<scope>.registry``)."""

from .engine.registry import DATASETS, HOOKS, METRICS, MODELS

__all__ = ["DATASETS", "HOOKS", "METRICS", "MODELS"]
