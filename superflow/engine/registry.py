"""The names that configs use. What is registered from other rooms knows nothing of mmengine, see `builders`.

Own types: ``custom_imports = dict(imports=["my_package.my_module"])`` in a config, and in that module
``@MODELS.register_module()`` (or ``DATASETS``, ``HOOKS``, ``METRICS``) above a class.
"""

from __future__ import annotations

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = "superflow"


def _child(name: str, home: str | None = None) -> Registry:
    """A registry that asks mmengine's where it has no entry; ``home`` is imported before the first look."""
    parent = getattr(root, name)
    return Registry(
        parent.name, scope=SCOPE, parent=parent, locations=[f"superflow.engine.{home}"] if home else []
    )


MODELS = _child("MODELS", "builders")
DATASETS = _child("DATASETS", "builders")
HOOKS = _child("HOOKS", "hooks")
METRICS = _child("METRICS", "evaluation")
LOOPS = _child("LOOPS", "loops")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "optim")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS", "schedule")
# nothing of ours is in these; mmengine warns of every scope that lacks one
for other in ("OPTIMIZERS", "VISUALIZERS", "VISBACKENDS", "LOG_PROCESSORS", "EVALUATOR", "MODEL_WRAPPERS"):
    _child(other)
