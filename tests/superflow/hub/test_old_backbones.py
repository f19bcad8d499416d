"""Files of an earlier version load, and give the rows that they gave then.

``exported_at_9074dca.json`` holds what `save_backbone` and `Backbone.extract` of that commit wrote and returned: cards
word by word, points, rows to seven digits. The weights follow from a formula whose numbers are exact in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from superflow.hub.backbone import load
from superflow.lidar.encoder import LidarEncoder

RECORDED = json.loads(Path(__file__).with_name("exported_at_9074dca.json").read_text())


def made_weights(config: dict) -> dict[str, torch.Tensor]:
    weights = LidarEncoder(**config).state_dict()
    for place, (name, value) in enumerate(sorted(weights.items())):
        steps = torch.arange(value.numel()).reshape(value.shape) + 31 * place
        if value.is_floating_point():
            value.copy_((steps * 7919 % 257 - 128) / 512)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return weights


@pytest.mark.parametrize("name", RECORDED)
def test_an_old_file_gives_its_rows(name, tmp_path):
    case = RECORDED[name]
    path = tmp_path / "old.safetensors"
    save_file(
        made_weights(case["card"]["encoder"]), path, metadata={"superflow_card": json.dumps(case["card"])}
    )
    backbone = load(path)  # which compares the hash of the weights with the card's
    rows = backbone.extract(np.array(case["points"], dtype=np.float32))
    np.testing.assert_allclose(rows, np.array(case["rows"]), rtol=1e-4, atol=1e-6)
    assert np.array_equal(rows.any(axis=1), np.array(case["rows"]).any(axis=1))
    assert backbone.card.limits == case["card"]["limits"]
    assert (backbone.card.training, backbone.card.data) == (case["card"]["training"], case["card"]["data"])
    assert backbone.card.method == {}
