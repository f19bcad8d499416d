"""The bounds that the occlusion test holds on the made street, where the renderer knows what is hidden."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.benchmark.hidden_points import SIZES, by_cells, by_surface, make_views, score


@pytest.fixture(scope="module", params=SIZES, ids=["256x448", "900x1600"])
def views(request):
    # seeds of the street that the rule was not chosen on
    return [
        view
        for seed in (30, 31, 32)
        for view in make_views(seed, request.param, scenes=1, times_s=(0.5, 4.0))
    ]


def test_hidden_points_go_and_visible_ones_stay(views):
    found = score(views, by_surface)
    assert found.pairs > 100_000
    assert 0.02 < found.hidden < 0.1
    assert found.left <= 0.45
    assert found.lost <= 0.012


def test_a_depth_buffer_of_square_cells_holds_both_bounds_at_no_size(views):
    for side_px in (2, 4, 8, 16):
        found = score(views, by_cells(side_px))
        assert found.left > 0.45 or found.lost > 0.012


def test_the_score_counts_pairs():
    view = next(make_views(30, (64, 112), scenes=1, times_s=(0.5,)))
    everything = score([view], lambda v: np.ones(len(v.hidden), bool))
    assert (everything.left, everything.lost) == (0, 1)
    assert everything.pairs == len(view.projection)
    nothing = score([view], lambda v: np.zeros(len(v.hidden), bool))
    assert (nothing.left, nothing.lost) == (1, 0)
    right = score([view], lambda v: v.hidden)
    assert (right.left, right.lost) == (0, 0)
    assert right.hidden == view.hidden.mean()
