"""Fixtures over the small batch of small_batch.py, and those of made_log.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
if str(HERE) not in sys.path:  # for the modules of this folder that tests and their processes share
    sys.path.insert(0, str(HERE))

from made_log import encoder, log, make_encoder, prepared_scans  # noqa: E402, F401  (fixtures)
from small_batch import EveryPointAVoxel, make_clip  # noqa: E402


@pytest.fixture
def clip():
    """Maker of one-clip batches."""
    return make_clip


@pytest.fixture
def student() -> EveryPointAVoxel:
    """A student without convolutions."""
    torch.manual_seed(0)
    return EveryPointAVoxel()
