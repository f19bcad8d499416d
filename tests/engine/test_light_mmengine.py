"""The engine leaves transformers alone, and does not stand in its way."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra agents")
def test_the_engine_does_not_import_transformers(repository):
    script = """
import sys
import superflow.engine
from mmengine.registry import OPTIMIZERS
print("transformers" in sys.modules, OPTIMIZERS.get("AdamW").__module__.split(".")[0])
import transformers
print(transformers.__name__)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "torch", "transformers"], run.stderr
