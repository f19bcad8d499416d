"""Both ways from cells to tokens: shapes, places, and what they can see."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.connector import with_position
from superflow.errors import InputError


def planes(seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 7, 8, 16, generator=torch.Generator().manual_seed(seed))


def test_pixel_shuffle_connector_against_a_loop(make_vlm):
    """Layer norm, two linear maps and the GELU by hand, token by token."""
    connector = make_vlm()[0].model.connector
    where = with_position(planes(), connector.grid).double()
    tokens = connector(planes())
    place = 0
    for tile in range(2):
        for row in range(4):
            for column in range(4):
                at = [(2 * row + i, 8 * tile + 2 * column + j) for i in range(2) for j in range(2)]
                x = torch.cat([where[:, :, r, c] for r, c in at], 1)
                x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
                x = x * connector.layer_norm.weight + connector.layer_norm.bias
                x = x @ connector.linear_1.weight.double().T + connector.linear_1.bias
                x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
                x = x @ connector.linear_2.weight.double().T + connector.linear_2.bias
                assert torch.allclose(tokens[:, place].double(), x, atol=1e-5)
                place += 1
    assert place == tokens.shape[1]


def test_shared_layer_of_cells_against_a_loop(make_vlm):
    """Each cell by itself through the same weights, then the tokens as without the layer."""
    from superflow.agents.vlm.bev import pixel_shuffle, to_tiles

    connector = make_vlm(cell_width=3)[0].model.connector
    connector.cells.standardise(planes(1, batch=5))
    given = planes(1, batch=5).double()
    cells = torch.zeros(2, 3, 8, 16, dtype=torch.float64)
    for row in range(8):
        for column in range(16):
            x = planes()[:, :, row, column].double()
            for channel in range(7):
                own = given[:, channel]
                x[:, channel] = (x[:, channel] - own.mean()) / own.std()
            x = x @ connector.cells.linear.weight.double().T + connector.cells.linear.bias
            cells[:, :, row, column] = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    assert torch.allclose(connector.cells(planes()).double(), cells, atol=1e-5)
    merged = pixel_shuffle(to_tiles(with_position(cells, connector.grid), connector.grid), 2).flatten(1, -2)
    tokens = connector.linear_2(connector.act(connector.linear_1(connector.layer_norm(merged.float()))))
    assert torch.allclose(connector(planes()), tokens, atol=1e-5)


def test_shared_layer_of_cells_is_saved_and_loaded(make_vlm, tmp_path):
    from superflow.agents.vlm.model import LidarVLM

    model, _ = make_vlm(cell_width=3)
    model.model.connector.cells.standardise(planes(1, batch=5))
    model.save_pretrained(tmp_path)
    again = LidarVLM.from_pretrained(str(tmp_path))
    assert torch.equal(again.model.connector(planes()), model.model.connector(planes()))
    assert again.model.connector.cells.mean.abs().sum() > 0
    with pytest.raises(InputError, match="cell_width is 3"):
        make_vlm(cell_width=3, connector="q_former")


def test_position_of_cells():
    grid = BevGrid(rows=4, columns=2, cell_m=3.0, ahead_m=0.0, tile=2)
    where = with_position(torch.zeros(1, 1, 4, 2), grid)[0, 1:]
    assert where[0, :, 0].tolist() == [0.75, 0.25, -0.25, -0.75]  # x, ahead first
    assert where[1, 0].tolist() == [0.5, -0.5]  # y, left first


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"merge": 2}, 32),
        ({"merge": 4}, 8),
        ({"connector": "q_former", "queries": 5}, 5),
    ],
)
def test_tokens_of_a_scan(make_vlm, options, tokens):
    model, processor = make_vlm(**options)
    seen = model.get_lidar_features(pixel_values=planes())
    assert seen.shape == (2, tokens, 32)
    assert processor.tokens_per_scan == tokens


@pytest.mark.parametrize("merge", [3, 0, 16])
def test_cells_that_cannot_be_merged_are_refused_at_once(make_vlm, merge):
    """Not only when the first scan comes; a Q-Former merges none."""
    with pytest.raises(InputError, match=f"merge is {merge}, and tiles are 8 x 8 cells"):
        make_vlm(merge=merge)
    make_vlm(merge=merge, connector="q_former")


def test_every_query_sees_every_cell(make_vlm):
    model, _ = make_vlm(connector="q_former", queries=3)
    given = planes(batch=1).requires_grad_()
    for query in range(3):
        (gradient,) = torch.autograd.grad(model.get_lidar_features(pixel_values=given)[0, query].sum(), given)
        assert (gradient.abs().sum((0, 1)) > 0).all()


def test_q_former_is_saved_and_loaded(make_vlm, tmp_path):
    from superflow.agents.vlm.model import LidarVLM

    model, _ = make_vlm(connector="q_former", queries=3)
    model.save_pretrained(tmp_path)
    again = LidarVLM.from_pretrained(tmp_path)
    given = planes()
    assert torch.equal(
        again.get_lidar_features(pixel_values=given), model.get_lidar_features(pixel_values=given)
    )
